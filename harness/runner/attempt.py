"""One attempt at one task: a place of work, an agent in it, and what it leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.errors import AgentFailed, InfraError, Interrupted, NotCollected, TransferError
from taskgate.harness.base.out_files import LOG
from taskgate.harness.engine.client import Engine
from taskgate.harness.runner import agent_process, blame, collection
from taskgate.harness.runner.attempt_record import AttemptRecord
from taskgate.harness.runner.completion import Ending, Unfinished
from taskgate.harness.runner.run_spec import TEMPORARY, RunSpec
from taskgate.harness.runner.signatures import Party
from taskgate.harness.runner.states import TaskState
from taskgate.harness.runner.watchdog import DiskWatch, Watchdog
from taskgate.harness.runner.workplace import JudgedTask, Site, Workplace
from taskgate.harness.sandbox.log_file import LogFile

# Of what an agent's files say.
REASON_CHARS = 2000
# What a process is ended with from outside: SIGKILL, SIGTERM.
KILLED = (137, 143)


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: `state` is done, failed or infra. `stopped` says why the agent was ended before its own
    end, `exit_status` how it ended; `seconds` is the agent's wall-clock time, `calls` what its endpoint counted,
    `party` who failed."""

    state: TaskState = TaskState.INFRA
    reason: str | None = None
    exit_status: int | None = None
    stopped: str | None = None
    seconds: float = 0.0
    calls: int | None = None
    party: Party | None = None
    artifacts: list[str] = field(default_factory=list)
    # Is another attempt worth it?
    again: bool = False


class Attempt:
    """Runs the agent on a judged task and leaves its files in `folder`, a folder of this attempt alone.

    `record` stands there as attempt.json as long as it is under way. `connect` makes further clients of the engine;
    `started` is called once its container runs.
    """

    def __init__(
        self,
        site: Site,
        judged: JudgedTask,
        spec: RunSpec,
        folder: Path,
        record: AttemptRecord,
        connect: Callable[[], Engine],
        started: Callable[[], None] = lambda: None,
    ) -> None:
        self._site, self._task, self._spec, self._folder, self._record = site, judged.task, spec, folder, record
        self._connect, self._started = connect, started
        self._place = Workplace(site, judged, spec, folder, record)
        self._watchdog = Watchdog(site.stopping, self._place.budget.seconds)
        self.outcome = Outcome()
        # Its files are still in its container, for the next start to fetch.
        self.kept = False

    def run(self) -> Outcome:
        """The outcome; what the endpoint or the infrastructure did to an agent at work is one, too.

        Raises InfraError where nothing is known of the agent, ImageChanged, Interrupted.
        """
        try:
            log = LogFile(self._folder / LOG, {**self._spec.secrets, "TASKGATE_KEY": self._place.key})
        except OSError as error:
            raise files.trouble(self._folder / LOG, error) from error
        try:
            self._run(log)
        except InfraError as error:
            if self._site.stopping.is_set():
                raise Interrupted from error
            error.args = (clean(str(error), log),)
            raise
        finally:
            log.close()
            self._place.close(keep=self.kept)
        return self.outcome

    def _run(self, log: LogFile) -> None:
        with self._site.starting:
            self._watchdog.go_on()
            self._place.open(log)
        self._started()
        problem: AgentFailed | None = None
        try:
            self._work(log)
            ending = self._ending(log)
        except AgentFailed as error:
            problem = error
            ending = Ending(self.outcome.exit_status, self.outcome.stopped, self._calls_spent())
        self._conclude(ending, problem, log)

    # The agent.

    def _work(self, log: LogFile) -> None:
        """The agent's own time. Raises AgentFailed, InfraError, Interrupted."""
        watch, limit = None, self._task.limits.disk
        if limit:
            watch = self._watchdog.disk = DiskWatch(self._connect, self._place.container.id, limit)
            watch.start()
        self._watchdog.link = self._place.link
        self._watchdog.start()
        try:
            self.outcome.exit_status = agent_process.work(self._place, self._spec, self._folder, self._watchdog, log)
        finally:
            self.outcome.seconds, self.outcome.stopped = self._watchdog.elapsed, self._watchdog.stopped
            if self._place.link and self._spec.endpoint:
                self._place.link.sync()
                self.outcome.calls = self._place.link.calls
            if watch:
                watch.close()
                if not watch.measured and self.outcome.seconds > 60:
                    _note(log, "the disk that it used could not be measured: its limit was not kept")

    def _ending(self, log: LogFile) -> Ending:
        """How the agent ended. From here on nothing in its container changes any more. Raises AgentFailed, InfraError,
        Interrupted."""
        status, stopped = self.outcome.exit_status, self._watchdog.stopped
        if stopped is None:
            if self._site.stopping.is_set() and (status is None or status in KILLED):
                raise Interrupted
            self._place.insist_on_running()
        if status == 137 and stopped is None and self._place.host_ran_out():
            raise InfraError("the agent was killed: the host is out of memory")
        self._place.end()
        if status == 137 and self._place.out_of_memory():
            stopped = f"ran out of its {self._task.limits.memory / (1 << 30):.3g} GiB of memory"
        elif self._calls_spent() and status and stopped is None:
            stopped = f"ran out of its {self._place.budget.calls:,} calls"
        self.outcome.stopped = stopped
        if stopped:
            _note(log, f"the agent {stopped}")
        return Ending(status, stopped, self._calls_spent())

    def _calls_spent(self) -> bool:
        calls, budget = self.outcome.calls, self._place.budget.calls
        return calls is not None and budget is not None and calls >= budget

    # Its end.

    def _conclude(self, ending: Ending, problem: AgentFailed | None, log: LogFile) -> None:
        """Fetch its files and judge them."""
        self._record.ended = {**asdict(ending), "seconds": self.outcome.seconds, "calls": self.outcome.calls}
        with contextlib.suppress(InfraError):
            self._record.write(self._folder)
        try:
            self.outcome.artifacts = collection.patiently(
                self._collect, seconds=self._spec.collect_seconds, stopping=self._site.stopping,
                note=lambda text: _note(log, text),
            )  # fmt: skip
            if ending.status == TEMPORARY and ending.by_itself:
                words = f"the agent reports an infrastructure failure (status {TEMPORARY}): {log.tail()}"
                raise Unfinished(words, party=Party.INFRA)
            if problem:
                raise problem
            if ending.status in (126, 127) and not self._place.agent.server and not self.outcome.artifacts:
                raise AgentFailed(f"the agent can't be started (status {ending.status}): {log.tail()}")
            collection.assess(self._folder, self._task.id, self._place.folders.submission, ending, self._record.before)
            self.outcome.state = TaskState.DONE
        except NotCollected as error:
            self.kept = error.later
            raise
        except (AgentFailed, Unfinished, TransferError) as error:
            if self._site.stopping.is_set():
                # Whatever it would have come to: what a stop ends is not failed.
                raise Interrupted from error
            link = self._place.link
            if link:
                # Nor is what the end of the relay did to the agent.
                link.sync()
                link.check()
            settle_failure(self.outcome, error, ending, log, endpoint=link.endpoint_failure if link else None)

    def _collect(self) -> list[str]:
        self._place.end()
        return collection.collect(
            self._site.engine, self._place.container.id, self._folder, self._place.folders, self._record.before
        )


def settle_failure(
    outcome: Outcome, error: Exception, ending: Ending, log: LogFile, *, endpoint: str | None = None
) -> None:
    """Who failed decides whether the agent has: what the endpoint or the infrastructure did is tried again.

    `endpoint`: what the endpoint's last answer says against it.
    """
    party = error.party if isinstance(error, Unfinished) else Party.AGENT
    reason = str(error)
    if party is Party.AGENT and endpoint:
        # No agent works without its model.
        party, reason = Party.ENDPOINT, f"{endpoint}; {reason}"
    if party is Party.AGENT and (failure := blame.of_log(log.end_text())):
        if failure.party is not Party.AGENT and not (failure.kind == "rate limit" and ending.calls_spent):
            party = failure.party
        reason = f"{reason}; {failure}"
    outcome.party, outcome.reason = party, clean(reason, log)
    outcome.state = TaskState.FAILED if party is Party.AGENT else TaskState.INFRA
    outcome.again = party is not Party.AGENT


def clean(text: str, log: LogFile) -> str:
    """Cut once no secret is in it: half of a secret is one."""
    return log.clean(text)[:REASON_CHARS]


def _note(log: LogFile, text: str) -> None:
    with contextlib.suppress(OSError):
        log.note(text)


def result_record(outcome: Outcome, record: AttemptRecord, artifacts: dict[str, Any]) -> dict[str, Any]:
    """result.json: how an attempt ended."""
    return {
        "task_id": record.task_id,
        "status": str(outcome.state),
        "reason": outcome.reason,
        "failed_by": outcome.party and str(outcome.party),
        "exit_status": outcome.exit_status,
        "stopped": outcome.stopped,
        "seconds": round(outcome.seconds, 3),
        "calls": outcome.calls,
        "image": record.image,
        "digest": record.digests[0] if record.digests else None,
        "digests": record.digests,
        "config": record.config,
        "run": record.run,
        "engine": record.engine,
        "started": record.started,
        "attempts": record.number,
        "artifacts": artifacts,
    }
