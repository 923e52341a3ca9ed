"""A repository with more files than anybody needs."""

from __future__ import annotations

from typing import Any

import pytest

from examples import images
from tests.conftest import Gate

HEAD = "version: 1\ndefaults: {repo_path: /testbed, pull: never, agent: {module: agent}, timeout: 20}\ntasks:\n"
# Links to a file a folder: the names are what git has to look at, and files of their own would take minutes to build.
MAKE = """
import os, sys
for number in range(int(sys.argv[1])):
    folder = '/testbed/many/%d' % (number // 1000)
    if number % 1000 == 0:
        os.makedirs(folder)
        open(folder + '/of', 'w').close()
    os.link(folder + '/of', '%s/%d' % (folder, number))
"""


def test_it_is_judged_and_others_are_too(gate: Gate, client: Any, sound: str, pytestconfig: pytest.Config) -> None:
    """Healthy, or too slow for its deadline; the sound ones beside it are healthy whatever it is."""
    count = 1_000_000 if pytestconfig.option.long else 100_000
    image = images.build(
        client,
        f"taskgate-test/hostile-many-{count}:1",
        f"FROM {sound}\nCOPY make /make\nRUN python3 /make {count}",
        {"make": MAKE.encode()},
    )
    run = gate(
        f"{HEAD}- {{id: one, image: '{sound}'}}\n- {{id: many, image: '{image}'}}\n- {{id: two, image: '{sound}'}}\n",
        "-n", "2",
    )  # fmt: skip
    verdicts = {name: (task["verdict"], task["check"]) for name, task in run.tasks.items()}
    assert verdicts["one"] == verdicts["two"] == ("healthy", None), run.output
    slow = [("healthy", None), ("broken", "git_repo")] if pytestconfig.option.long else [("healthy", None)]
    assert verdicts["many"] in slow, run.output
