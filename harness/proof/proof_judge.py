"""Proves tasks on one engine: as the gate judges an image, this judges a task."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskgate.harness.base.errors import EngineTimeout, EngineUnavailable, InfraError, Interrupted, TaskgateError
from taskgate.harness.base.names import folder_name
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.image_provider import ImageProvider
from taskgate.harness.gate.judge import new_record
from taskgate.harness.gate.verdict import Record, Verdict
from taskgate.harness.proof import fingerprint, graders
from taskgate.harness.proof.decision import ProofVerdict, decide, next_control
from taskgate.harness.proof.plan import Plan
from taskgate.harness.proof.proof_record import HINTS, record_of
from taskgate.harness.proof.run import Control, Run
from taskgate.harness.proof.run_store import RunStore
from taskgate.harness.proof.trial import Trial
from taskgate.harness.tasks.task import Task

GONE = (EngineUnavailable, EngineTimeout)


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """`repeat` completed runs of each control are wanted; up to `spare` incomplete ones of each are repeated.
    `offline`: the controls run without a network as well."""

    repeat: int = 3
    spare: int = 2
    offline: bool = False


class ProofJudge:
    """`connect` opens the engine. `out` holds runs.jsonl and, in a folder for each task, the logs of its runs."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        out: Path,
        settings: ProofSettings,
        *,
        session: str,
        stopping: threading.Event | None = None,
    ) -> None:
        """Raises InfraError where earlier runs can't be read."""
        self._provider = ImageProvider(connect, session)
        self._out, self._settings, self._session = out, settings, session
        self._store = RunStore(out)
        self._stopping = stopping or threading.Event()

    def judge(self, task: Task, following: Task | None = None) -> Record:
        """The record of the task's proof: from earlier runs, or from runs now. `following` is pulled meanwhile."""
        try:
            plan = graders.plan_of(task)
            return self._prove(task, plan, following)
        except Interrupted:
            raise
        except TaskgateError as error:
            if isinstance(error, GONE):
                self._provider.disconnect()
            record = new_record(task, Verdict.INFRA)
            record.check, record.reason = str(ProofVerdict.INCONCLUSIVE), str(error)[:2000]
            record.hint = HINTS[ProofVerdict.INCONCLUSIVE]
            return record
        finally:
            with contextlib.suppress(InfraError):
                self._provider.release(task.request)

    def close(self) -> None:
        self._provider.disconnect()

    def _prove(self, task: Task, plan: Plan, following: Task | None) -> Record:
        settings, mark = self._settings, fingerprint.of(task, plan)
        image = self._provider.image(task.request)
        if following:
            self._provider.expect(following.request)
        key = (task.id, image.digest, mark)
        runs = self._store.runs(key)
        known = len(runs)
        offline = settings.offline and task.network != "none"
        while control := next_control(runs, settings.repeat, settings.spare, offline=offline):
            run = self._run(task, plan, control, runs)
            self._store.add(key, run)
            runs.append(run)
        decision = decide(runs, settings.repeat, offline=offline)
        record = record_of(task, decision, runs, digest=image.digest, platform=image.platform)
        record.fingerprint, record.cached = mark, len(runs) == known
        return record

    def _run(self, task: Task, plan: Plan, control: Control, runs: list[Run]) -> Run:
        number = 1 + sum(run.control is control for run in runs)
        parent = self._out / folder_name(task.id)
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{control}-{number}.", dir=parent))
        trial = Trial(
            self._provider.engine,
            self._provider.image(task.request),
            task,
            plan,
            folder,
            self._session,
            self._provider.delivery(task),
            self._stopping,
        )
        run = trial.run(control, number)
        target = parent / f"{control}-{number}"
        with contextlib.suppress(OSError):
            _replace(folder, target)
        return run


def _replace(folder: Path, target: Path) -> None:
    """Evidence of an earlier proof of the same task gives way to the new one's."""
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
