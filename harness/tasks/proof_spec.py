"""The manifest's `proof`: a task's reference solution, its tests, and how their outcome is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from taskgate.harness.tasks import values
from taskgate.harness.tasks.values import ContextForm, Form, Part, invalid

HARNESSES = (
    "command",
    "swebench",
    "multi-swe-bench",
    "swesmith",
    "harbor",
    "terminal-bench",
    "programbench",
)
# Harnesses whose solution and tests are in a row of a data set.
OF_ROWS = ("swebench", "multi-swe-bench", "swesmith")


def _solution(value: Any, context: Mapping[str, Any]) -> str | tuple[str, ...]:
    """A file of this host, or a command: a list, or a text with a space in it."""
    if isinstance(value, str) and " " not in value:
        return values.host_path(value, context)
    return values.argv(value)


Solution = Annotated[
    str | tuple[str, ...],
    ContextForm(_solution, {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


@dataclass(frozen=True, slots=True)
class Proof:
    """How it is shown that a task can be solved and is not solved already.

    `solution` is the path of a file of this host (a patch for git, or a script that is run in the container), or the
    argv of a command. `test` is an argv. `tests` is a folder of this host that is put at `tests_path` before the tests
    run, and never into a container that an agent gets. The tests passed if `junit` (a file in the container) says so,
    or else if the exit status is `pass_when`. `timeout` is in seconds, for solution and tests each. For a harness that
    reads rows, `source` is the data set and `row` the instance id in it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    harness: Annotated[
        Annotated[str, Form(values.one_of(*HARNESSES), {"enum": list(HARNESSES)})],
        Field(description="Whose rules decide whether the tests passed.", examples=["command"]),
    ] = "command"
    solution: Annotated[
        Solution | None,
        Field(
            description="A patch (.patch, .diff) that git applies or a script that is run, relative to the manifest; "
            "or a command.",
            examples=["solutions/one.patch"],
        ),
    ] = None
    test: Annotated[
        values.Argv | None,
        Field(
            description="The task's own tests; one text is for /bin/sh -c.",
            examples=["python3 -m pytest --junitxml=/testbed/junit.xml"],
        ),
    ] = None
    tests: Annotated[
        values.HostPath | None,
        Field(
            description="A folder that is put at tests_path before the tests run, relative to the manifest.",
            examples=["tests/one"],
        ),
    ] = None
    tests_path: Annotated[
        values.AbsolutePath, Field(description="Where tests are put in the container.", examples=["/tests"])
    ] = "/tests"
    junit: Annotated[
        values.AbsolutePath | None,
        Field(description="A JUnit file that the tests write in the container.", examples=["/testbed/junit.xml"]),
    ] = None
    pass_when: Annotated[
        Annotated[int, Form(values.whole(0, 255), {"type": "integer", "minimum": 0, "maximum": 255})],
        Field(description="The exit status of tests that pass.", examples=[0]),
    ] = 0
    timeout: Annotated[
        values.LongSeconds, Field(description="Seconds for the solution and for the tests.", examples=[1800])
    ] = 1800.0
    user: Annotated[
        values.User | None,
        Field(description="The user that solution and tests run as; null: the task's.", examples=["root"]),
    ] = None
    source: Annotated[
        values.HostPath | None,
        Field(description="The data set with the task's row, relative to the manifest.", examples=["rows.jsonl"]),
    ] = None
    row: Annotated[
        values.Text | None, Field(description="The row's instance id.", examples=["django__django-11099"])
    ] = None


def _check(given: set[str], proof: Proof) -> None:
    if proof.harness == "command":
        if proof.test is None:
            raise invalid("is missing: the command that runs the tests", at="test")
        if proof.solution is None:
            raise invalid("is missing: a file or a command that solves the task", at="solution")
    elif proof.harness in OF_ROWS and (proof.source is None or proof.row is None):
        raise invalid(f"with harness {proof.harness} takes source and row")


ProofField = Annotated[Proof, Part(_check)]
