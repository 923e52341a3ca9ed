"""What a killed run left behind: agents that had ended, whose files are still in their containers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import InfraError, TransferError
from taskgate.harness.base.out_files import LOG, RESULT
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import artifacts, attempt, collection
from taskgate.harness.runner.attempt import Outcome
from taskgate.harness.runner.attempt_record import AttemptRecord
from taskgate.harness.runner.completion import Ending, Unfinished
from taskgate.harness.runner.results import Results
from taskgate.harness.runner.run_spec import RunSpec
from taskgate.harness.runner.states import TaskState
from taskgate.harness.sandbox.log_file import LogFile


def recover(results: Results, connections: Sequence[Callable[[], Engine]], spec: RunSpec) -> list[str]:
    """Fetch the files of agents that ended before their run was killed; the ids of tasks that have a result by it.

    Removes the containers and folders of all other attempts that the run left in this folder. What is on an engine that
    does not answer stays for another time. Raises InfraError where the results' own disk fails.
    """
    recovered = []
    engines = _Engines(connections)
    try:
        for folder in results.running():
            record = AttemptRecord.read(folder)
            if (folder / RESULT).exists():
                continue
            if record is None or record.container is None:
                results.discard(folder)
            elif engine := engines.of(record):
                if _recover(results, folder, record, engine, spec):
                    recovered.append(record.task_id)
            elif engines.complete:
                results.discard(folder)
    finally:
        engines.close()
    return recovered


class _Engines:
    """The engines that answer. `complete`: all of them do."""

    def __init__(self, connections: Sequence[Callable[[], Engine]]) -> None:
        self._engines: list[Engine] = []
        self.complete = True
        for connect in connections:
            try:
                self._engines.append(connect())
            except InfraError:
                self.complete = False

    def of(self, record: AttemptRecord) -> Engine | None:
        """The engine that has the attempt's container."""
        for engine in sorted(self._engines, key=lambda engine: redacted(engine.url) != record.engine):
            if record.container and engine.state(record.container):
                return engine
        return None

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


def _recover(results: Results, folder: Path, record: AttemptRecord, engine: Engine, spec: RunSpec) -> bool:
    """The attempt's result is in its task's place, if its agent had ended by itself; its container is gone."""
    assert record.container
    ended = record.ended or _ended(engine, record)
    settled = False
    if ended is not None:
        try:
            outcome = _conclude(folder, record, ended, engine, spec)
            results.record(
                folder, attempt.result_record(outcome, record, artifacts.describe(folder, outcome.artifacts))
            )
            results.settle(record.task_id, folder)
            settled = True
        except (InfraError, OSError):
            # It is there and does not change: the next start tries again.
            return False
    with contextlib.suppress(InfraError):
        engine.remove(record.container)
    if not settled:
        results.discard(folder)
    return settled


def _ended(engine: Engine, record: AttemptRecord) -> dict[str, Any] | None:
    """How the agent ended, where nobody had time to write it down. With its run its container ends as well: only an
    agent that ended with status 0 has surely come to its own end."""
    if record.exec is None:
        return None
    with contextlib.suppress(InfraError):
        if engine.exec_status(record.exec) == 0:
            return {"status": 0}
    return None


def _conclude(folder: Path, record: AttemptRecord, ended: dict[str, Any], engine: Engine, spec: RunSpec) -> Outcome:
    """Raises InfraError, OSError."""
    assert record.container
    status, stopped = ended.get("status"), ended.get("stopped")
    ending = Ending(status, stopped, bool(ended.get("calls_spent")))
    outcome = Outcome(
        exit_status=status, stopped=stopped, seconds=float(ended.get("seconds") or 0.0), calls=ended.get("calls")
    )
    log = LogFile(folder / LOG, spec.secrets)
    try:
        # Nothing in there may change while it is read.
        with contextlib.suppress(InfraError):
            engine.signal(record.container, doing="ending the agent")
        outcome.artifacts = collection.collect(engine, record.container, folder, record.places, record.before)
        collection.assess(folder, record.task_id, record.places.submission, ending, record.before)
        outcome.state = TaskState.DONE
    except (Unfinished, TransferError) as error:
        attempt.settle_failure(outcome, error, ending, log)
    finally:
        log.close()
    return outcome
