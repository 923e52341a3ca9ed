"""Proves tasks on one engine: as the gate judges an image, this judges a task."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tenacity

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
from taskgate.harness.proof.run_store import Key, RunStore
from taskgate.harness.proof.trial import Trial
from taskgate.harness.tasks.task import Task

MAX_WAIT_SECONDS = 10.0
GONE = (EngineUnavailable, EngineTimeout)


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """`repeat` completed runs of each control are wanted; up to `spare` incomplete ones of each are repeated.
    `offline`: the controls run without a network as well. `recheck`: earlier runs don't count."""

    repeat: int = 3
    spare: int = 2
    offline: bool = False
    recheck: bool = False


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
        self._rechecked: set[Key] = set()

    def judge(self, task: Task, following: Task | None = None) -> Record:
        """The record of the task's proof: from earlier runs, or from runs now. `following` is pulled meanwhile."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(1 + self._settings.spare),
            wait=tenacity.wait_exponential(max=MAX_WAIT_SECONDS),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, InfraError) and error.transient),
            before_sleep=self._recover,
            sleep=tenacity.sleep_using_event(self._stopping),
            reraise=True,
        )
        try:
            return retrying(self._prove, task, graders.plan_of(task), following)
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

    def _recover(self, state: tenacity.RetryCallState) -> None:
        """Find another engine in place of one that is gone. Runs that completed there are kept."""
        if self._stopping.is_set():
            raise Interrupted
        if state.outcome and isinstance(state.outcome.exception(), GONE):
            self._provider.disconnect()

    def _prove(self, task: Task, plan: Plan, following: Task | None) -> Record:
        settings, mark = self._settings, fingerprint.of(task, plan)
        image = self._provider.image(task.request)
        if following:
            self._provider.expect(following.request)
        key = (task.id, image.digest, mark)
        if self._settings.recheck and key not in self._rechecked:
            self._store.forget(key)
            self._rechecked.add(key)
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
        number = 1 + max((run.number for run in runs if run.control is control), default=0)
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
        try:
            run = trial.run(control, number)
        except BaseException:
            # Interrupted, or its engine is gone: this was no run.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        target = parent / f"{control}-{number}"
        with contextlib.suppress(OSError):
            _replace(folder, target)
        return run


def _replace(folder: Path, target: Path) -> None:
    """Evidence of an earlier proof of the same task gives way to the new one's."""
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
