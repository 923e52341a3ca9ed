"""The control: what taskgate brought is tried in a known-good image before a failure of it is held against another.

If it fails there as well, no image is judged by it: that is infra, once for the whole run. If it works there and fails
in an image because of that image's nature, the image is incompatible.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from taskgate.checks import _registry as registry
from taskgate.checks._registry import Check
from taskgate.harness.base.errors import BundleError, InfraError, StartFailed, TaskgateError
from taskgate.harness.engine.client import Engine, Image
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.gate import nature
from taskgate.harness.gate.image_provider import ImageProvider
from taskgate.harness.gate.judge import Judgement
from taskgate.harness.gate.nature import Incompatibility
from taskgate.harness.gate.verdict import Outcome, Record, Verdict
from taskgate.harness.runtime import bundle as bundles
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.runtime.empty_image import ensure_empty_image
from taskgate.harness.sandbox.container import Container
from taskgate.harness.sandbox.sandbox import CheckStopped, Sandbox
from taskgate.harness.tasks.task import Require, Task

# Checks of what a runtime brings.
OF_PROGRAMS = ("git_available", "python_available")
OF_RUNTIME = (*OF_PROGRAMS, "agent_start")
PREPARE = """
mkdir -p "$1" && cd "$1" || exit
"$2" init -q . && "$2" -c user.name=control -c user.email=control commit -q --allow-empty -m control
"""
# Before these no mount plays a part.
BEFORE_MOUNTS = ("image_exists", "platform", "user", "network")


class Control:
    """One gate's. What was learned of a runtime and an agent is asked for once."""

    def __init__(self, provider: ImageProvider, checks: list[Check], session: str) -> None:
        self._provider, self._checks, self._session = provider, checks, session
        # By check, runtime and agent: why it fails in a control container; None: it works.
        self._failures: dict[tuple[object, ...], str | None] = {}

    def passed(self, record: Record, task: Task, delivery: Delivery) -> None:
        """An image is healthy: the best control that there is."""
        for finding in record.findings:
            if finding.check in OF_RUNTIME and finding.outcome in (Outcome.PASS, Outcome.WARN):
                self._failures[_key(finding.check, task, delivery)] = None

    def weigh(self, record: Record, task: Task, delivery: Delivery, image: Image) -> None:
        """Find out whether an image that is broken so far is to blame; makes the record incompatible where its nature
        is. Raises BundleError where what was brought fails in the control as well, else InfraError."""
        check = record.check or ""
        because = nature.of(record, delivery.bundle.prefix) if check in OF_RUNTIME else None
        if because is None and check in OF_RUNTIME and (failure := self._failure(check, task, delivery, image)):
            raise BundleError(failure)
        because = because or self._hidden(check, task, delivery, image)
        if because:
            record.verdict, record.reason, record.hint = Verdict.INCOMPATIBLE, because.reason[:2000], because.hint

    def _failure(self, check: str, task: Task, delivery: Delivery, image: Image) -> str | None:
        """Why the check fails in a control container; None where it passes, or where there is no control."""
        key = _key(check, task, delivery)
        if key not in self._failures:
            # No control is no reason to acquit an image, and no reason to stop.
            with contextlib.suppress(InfraError, StartFailed, CheckStopped):
                self._failures[key] = self._try(check, replace(task, workdir=task.start_dir(image.workdir)), delivery)
        return self._failures.get(key)

    def _try(self, check: str, task: Task, delivery: Delivery) -> str | None:
        engine = self._provider.engine
        name = self._image_name(engine, check, task, delivery)
        if name is None:
            return None
        control = replace(
            task, id=f"{task.id} (control)", image=name, repo_path=None, base_commit=None,
            user=None, pull="never", require=Require(), checks={},
        )  # fmt: skip
        mount = Delivery(engine, self._provider.store, delivery.bundle, "auto")
        with self._open(control, [check, "python_available"], mount) as judgement:
            # The agent finds a work directory with a repository, as in any sound image.
            judgement.sandbox.begin(task.timeout)
            judgement.sandbox.sh(PREPARE, judgement.sandbox.start_dir, delivery.bundle.git or "git")
            findings = judgement.run().findings
            reason = next(
                (item.reason for item in findings if item.check == check and item.outcome is Outcome.FAIL), ""
            )
            if not reason or _own(task, reason) or not _brings(check, judgement.sandbox):
                return None
        return (
            f"{check} fails in a control container of {name} as well ({reason[:1000]}): the runtime or the agent that"
            " was brought is at fault, and no image is judged by it"
        )

    @contextlib.contextmanager
    def _open(self, task: Task, names: list[str], delivery: Delivery | None) -> Iterator[Judgement]:
        known = {check.name for check in self._checks}
        checks = registry.chosen(self._checks, [name for name in names if name in known])
        sandbox = Sandbox(self._provider.engine, task, self._session, checks=len(checks), delivery=delivery)
        try:
            yield Judgement(task, sandbox, checks)
        finally:
            with contextlib.suppress(InfraError):
                sandbox.close()

    def _image_name(self, engine: Engine, check: str, task: Task, delivery: Delivery) -> str | None:
        """A known-good image for the control, on the engine already; None where there is none."""
        assert task.runtime
        # What an image was given before is in no other one.
        if task.runtime.mode == "present":
            return None
        for name in (task.runtime.from_image, task.runtime.builder):
            with contextlib.suppress(TaskgateError):
                if name and engine.digest(name) and engine.image(ImageRequest(name, task.platform, "never")):
                    return name
        # A whole runtime works in an empty image. Of an agent that says nothing: it may want more than that.
        if check in OF_PROGRAMS and delivery.bundle.shell:
            return ensure_empty_image(engine, task.platform.split("/")[1])
        return None

    def _hidden(self, check: str, task: Task, delivery: Delivery, image: Image) -> Incompatibility | None:
        """Does the runtime's mount hide files of the image that the check needs? Raises InfraError."""
        prefix = delivery.bundle.prefix
        if delivery.mode != "mount" or check in BEFORE_MOUNTS or prefix.startswith(f"{bundles.ROOT}/"):
            return None
        if not self._has(task, image, prefix):
            return None
        bare = replace(task, runtime=None, pull="never")
        with self._open(bare, [check], None) as judgement:
            if judgement.run().verdict is not Verdict.HEALTHY:
                return None
        return Incompatibility(
            f"the runtime is mounted over {prefix}, which hides what the image has there: {check} passes without it",
            "Set `runtime.path` to a folder that the images do not have.",
        )

    def _has(self, task: Task, image: Image, path: str) -> bool:
        """Has the image itself anything at `path`?"""
        container = Container(
            self._provider.engine, image, replace(task, user=None), self._session, seconds=300, network="none"
        )
        try:
            return container.exists(path)
        finally:
            container.remove()


def _brings(check: str, sandbox: Sandbox) -> bool:
    """Does the runtime bring what the check tries? Raises InfraError."""
    bundle, agent = sandbox.runtime, sandbox.task.agent
    assert bundle
    if check == "git_available":
        return bundle.git is not None
    # An interpreter that the manifest names is the image's.
    python = bundle.python is not None and sandbox.task.python_path is None
    if check == "python_available":
        return python
    if agent is None:
        return False
    programs = [sandbox.program(argv[0]) for argv in (agent.command, agent.run, agent.server, agent.probe) if argv]
    return (agent.module is not None and python) or any(
        program.startswith(f"{bundle.prefix}/") and sandbox.exists(program) for program in programs
    )


def _own(task: Task, reason: str) -> bool:
    """Does the control lack what the images are to have: the agent's module or program, which nobody brought?"""
    agent = task.agent
    if agent is None or (task.runtime and task.runtime.agent and agent.module):
        return False
    module = (agent.module or "").partition(".")[0]
    programs = [argv[0] for argv in (agent.command, agent.run, agent.server) if argv]
    lacks_module = bool(module) and f"No module named '{module}" in reason
    gone = "not found" in reason or "is not " in reason or "No such file" in reason
    return lacks_module or (gone and any(name in reason for name in programs))


def _key(check: str, task: Task, delivery: Delivery) -> tuple[object, ...]:
    env = tuple(sorted(task.env.items()))
    return check, delivery.bundle.name, delivery.bundle.prefix, task.agent, task.python, task.network, env
