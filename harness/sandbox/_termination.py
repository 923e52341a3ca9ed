"""Ends all processes of a command in a container, whoever's they are, and verifies that none is left.

The exec API can't kill, and no user of a container sees everything: without CAP_SYS_PTRACE not even root may read the
environment of another user's process. So the same script runs as one user after another: as the command's own, as root,
and as the owner of each process that neither could identify. What it can't attribute is left alone and reported.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from taskgate.harness.base.errors import InfraError
from taskgate.harness.engine import classification
from taskgate.harness.engine.attach_stream import STDERR, AttachStream, wait_readable

VARIABLE = "TASKGATE_EXEC"
TOTAL_SECONDS = 30.0
RETRY_SECONDS = 10.0
# A process counts as the command's only if it began no earlier than this before it: clocks and latencies differ.
SLACK_SECONDS = 3.0
REPORT_BYTES = 1 << 20
OWNERS = 16

# Nothing but builtins: the image may have no other program, and the container may be unable to fork.
# A process is the command's if it carries its mark, or if it is in the session of one that does, descends from one, or
# has the same pipe as standard input or output. Each is stopped on sight, so that it can't fork any more, and they are
# killed together; rounds go on until none is found. Then every process that is still there is reported, a line each:
# pid, parent, session, start, and what is known of it.
SCRIPT = """
exec 2>/dev/null
mark=$1 age=$2 sessions=" $3 " claimed=" $4 "
now() { read -r up rest </proc/uptime && now=${up%.*}${up#*.}; }
content() {
  text=
  while IFS= read -r part || [ -n "$part" ]; do text="$text $part"; done <"$1"
}
owner() {
  while read -r key value rest; do
    case $key in Uid:) uid=$value ;; Gid:) gid=$value ;; esac
  done <"/proc/$1/status"
}
identify() {
  kind=hidden
  true <"/proc/$1/environ" || return 0
  kind=bare
  while IFS= read -r part || [ -n "$part" ]; do
    case $part in
    *"$mark"*) kind=own; return 0 ;;
    *TASKGATE_EXEC=*) part=${part#*TASKGATE_EXEC=}; kind=other:${part%"${part#????????????????????????}"} ;;
    esac
  done <"/proc/$1/environ"
}
shares() {
  for pipe in $pipes; do
    for number in 0 1 2; do
      [ "/proc/$1/fd/$number" -ef "$pipe" ] && return 0
    done
  done
  return 1
}
scan() {
  own=' ' last=- known=' ' pipes= rows=
  while [ "$last" != "$own" ]; do
    last=$own
    for folder in /proc/[0-9]*; do
      pid=${folder#/proc/}
      [ "$pid" != $$ ] || continue
      case $own in *" $pid "*) continue ;; esac
      content "$folder/stat"
      set -- ${text##*") "}
      [ -n "${20}" ] && [ "$1" != X ] || continue
      # The main thread of a process may have ended before the others.
      [ "$1" != Z ] || [ "${18}" -gt 1 ] || continue
      kind=old
      if [ "$pid" != 1 ] && [ "${20}" -ge "$since" ]; then
        kind=
        case $own in *" $2 "*) kind=own ;; esac
        case $sessions in *" $4 "*) kind=own ;; esac
        case $claimed in *" $pid:${20} "*) kind=own ;; esac
        case $known in *" $pid "*) kind=${kind:-known} ;; esac
        [ -n "$kind" ] || identify "$pid"
        case $kind in bare | known) ! shares "$pid" || kind=own ;; esac
      fi
      case $kind in
      own)
        kill -STOP "$pid"
        own="$own$pid "
        for number in 1 2; do
          [ ! -p "$folder/fd/$number" ] || pipes="$pipes $folder/fd/$number"
        done
        [ "$4" -le 1 ] || case $sessions in *" $4 "*) ;; *) sessions="$sessions$4 " ;; esac
        rows="$rows$pid $2 $4 ${20} own
" ;;
      known) ;;
      *)
        case $known in *" $pid "*) continue ;; esac
        known="$known$pid "
        [ "$kind" != hidden ] || { uid= gid=; owner "$pid"; kind=hidden:$uid:$gid; }
        rows="$rows$pid $2 $4 ${20} $kind
" ;;
      esac
    done
  done
}
now || exit 3
since=$((now - age)) limit=$((now + 800)) vain=0
while :; do
  scan
  [ "$own" != ' ' ] || break
  hit=
  for pid in $own; do kill -9 "$pid" && hit=1; done
  [ -n "$hit" ] || vain=$((vain + 1))
  now && [ "$now" -lt "$limit" ] && [ "$vain" -lt 20 ] || break
done
owner $$
echo "$rows"uid "$uid"
echo sessions $sessions
echo end
"""
NO_ROOM = re.compile(r"resource temporarily unavailable|cannot allocate|can't fork|cannot fork|newosproc", re.I)
ROW = re.compile(r"(\d{1,10}) (\d{1,10}) (\d{1,10}) (\d{1,20}) (own|old|bare|hidden|other)(?::([0-9a-f:]{1,24}))?")

_SECRET = secrets.token_bytes(32)


def new_mark() -> str:
    """A value of the environment variable VARIABLE, for one command and its descendants; `is_mark` knows it again."""
    text = secrets.token_hex(6)
    return text + _signature(text)


def is_mark(text: str) -> bool:
    """Is it one of this process's marks? A command can take any value, to pass for somebody else's."""
    return hmac.compare_digest(_signature(text[:12]), text[12:])


def _signature(text: str) -> str:
    return hmac.new(_SECRET, text.encode(), "sha256").hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Process:
    """One that runs in the container. `kind`: own, old (began before the command), other (another command's), bare
    (without a mark), or hidden, and then `owner` is its `uid:gid`."""

    pid: int
    parent: int
    session: int
    start: int
    kind: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What the script found once it had killed what it could. `uid` is whom it ran as."""

    processes: dict[int, Process]
    uid: int | None
    sessions: set[int]

    @classmethod
    def parse(cls, text: str) -> Report | None:
        """None where it is not complete. The container wrote it: nothing in it is trusted but for what it may kill."""
        lines = text.splitlines()
        if not lines or lines[-1] != "end":
            return None
        processes: dict[int, Process] = {}
        uid, sessions = None, set()
        for line in lines:
            if match := ROW.fullmatch(line):
                pid, parent, session, start = (int(match[group]) for group in (1, 2, 3, 4))
                kind, detail = match[5], match[6] or ""
                if kind == "other" and not is_mark(detail):
                    kind = "bare"
                owner = detail if kind == "hidden" else ""
                processes[pid] = Process(pid, parent, session, start, kind, owner)
            elif line.startswith("uid ") and line[4:].isdecimal():
                uid = int(line[4:])
            elif line.startswith("sessions "):
                sessions = {int(word) for word in line.split()[1:] if word.isdecimal()}
        return cls(processes, uid, sessions)

    def suspects(self) -> list[Process]:
        """Those that may be the command's: nobody knows whose they are."""
        return [process for process in self.processes.values() if self._suspicious(process)]

    def own(self) -> list[Process]:
        return [process for process in self.processes.values() if process.kind == "own"]

    def commands(self) -> list[Process]:
        """Those that the engine itself started, of which nobody knows by whose order."""
        return [process for process in self.processes.values() if not process.parent and _unknown(process)]

    def _suspicious(self, process: Process) -> bool:
        for _ in range(len(self.processes)):
            if not _unknown(process):
                return False
            if process.parent in (0, 1) or process.parent not in self.processes:
                break
            process = self.processes[process.parent]
        if process.parent == 0:
            # Another command of the engine's. Whether the command's own first process is left, the engine says.
            return False
        # An orphan, or a child that process 1 started.
        init, leader = self.processes.get(1), self.processes.get(process.session)
        if init and process.session == init.session:
            return False
        return leader is None or leader is process or (_unknown(leader) and leader.parent != 0)


def _unknown(process: Process) -> bool:
    return process.kind in ("bare", "hidden")


class Termination:
    """Ends what `exec_id` started in `container` as `user`, with `mark` in its environment, at `began` (monotonic).

    `pump` reads the command's output for as many seconds: an engine does not see a command end before that.
    """

    def __init__(
        self, container: Any, exec_id: str, mark: str, user: str, began: float, pump: Callable[[float], None]
    ) -> None:
        self._id, self._api, self._exec_id, self._mark = container.id, container.client.api, exec_id, mark
        self._user, self._began, self._pump = user, began, pump
        self._sessions: set[int] = set()
        self._claimed: set[str] = set()
        self._kinds: dict[tuple[int, int], str] = {}
        self._deadline = time.monotonic() + TOTAL_SECONDS

    def run(self) -> bool:
        """True once no process of the command is left; False where one is, or where that can't be determined.

        Raises InfraError where the engine fails.
        """
        users, tried, latest, repeats = [self._user], {self._user}, None, 2
        while users and time.monotonic() < self._deadline:
            if report := self._as(users.pop(0)):
                latest = self._merged(report)
            if report and report.uid == 0:
                tried.add("0")
            for user in ["0", *(self._owners(latest) if latest else ())]:
                if user and user not in tried and len(tried) < OWNERS:
                    tried.add(user)
                    users.append(user)
            if not users and latest and repeats and (self._claim(latest) or latest.own()):
                repeats -= 1
                users.append("0")
        return latest is not None and not latest.own() and not latest.suspects() and self._over()

    def _owners(self, report: Report) -> list[str]:
        """Users that may see whose a process is that nobody could identify yet."""
        unknown = report.suspects()
        commands = [process for process in report.commands() if process.kind == "hidden"]
        if commands and self._runs():
            unknown += commands
        return [process.owner for process in unknown if process.kind == "hidden"]

    def _merged(self, report: Report) -> Report:
        """With what other users saw of the same processes."""
        merged = {}
        for pid, process in report.processes.items():
            key = pid, process.start
            if process.kind != "hidden":
                self._kinds[key] = process.kind
            merged[pid] = replace(process, kind=self._kinds.get(key, "hidden"))
        self._sessions |= report.sessions
        return Report(merged, report.uid, self._sessions)

    def _claim(self, report: Report) -> bool:
        """The engine says that the command still runs: is there just one that it can be?"""
        commands = report.commands()
        if len(commands) != 1 or not self._runs():
            return False
        claim = f"{commands[0].pid}:{commands[0].start}"
        fresh = claim not in self._claimed
        self._claimed.add(claim)
        return fresh

    def _runs(self) -> bool:
        with classification.translated("asking for a command"):
            return bool(self._api.exec_inspect(self._exec_id)["Running"])

    def _over(self) -> bool:
        """The engine learns of the end of a process a moment later."""
        deadline = time.monotonic() + RETRY_SECONDS
        while self._runs():
            if time.monotonic() > deadline:
                return False
            self._pump(0.02)
        return True

    def _as(self, user: str) -> Report | None:
        """Run the script as `user`; None where that does not work."""
        deadline = min(self._deadline, time.monotonic() + RETRY_SECONDS)
        while True:
            output = self._script(user)
            if output is None or (report := Report.parse(output)):
                return None if output is None else report
            # A container that has no room for another process may have it in a moment.
            if time.monotonic() > deadline or not NO_ROOM.search(output):
                return None
            self._pump(0.1)

    def _script(self, user: str) -> str | None:
        """What the script printed; None where the engine refuses to run it."""
        age = int((time.monotonic() - self._began + SLACK_SECONDS) * 100)
        lists = (" ".join(map(str, sorted(self._sessions))), " ".join(sorted(self._claimed)))
        stream = None
        try:
            with classification.translated("stopping a command in a container"):
                created = self._api.exec_create(
                    self._id,
                    ["/bin/sh", "-c", SCRIPT, "sh", f"{VARIABLE}={self._mark}", str(age), *lists],
                    user=user,
                    workdir="/",
                    environment=[f"{VARIABLE}={new_mark()}"],
                )["Id"]
                stream = AttachStream(self._api.exec_start(created, socket=True))
            return self._read(stream)
        except InfraError as error:
            if classification.answer_of(error):
                return None
            raise
        finally:
            if stream:
                stream.close()

    def _read(self, stream: AttachStream) -> str:
        output = b""
        while time.monotonic() < self._deadline:
            self._pump(0)
            if not wait_readable([stream], 0.05):
                continue
            parts = stream.read(1.0)
            if parts is None:
                break
            output += b"".join(part for number, part in parts if number != STDERR or not output)
            if len(output) > REPORT_BYTES:
                break
        return output.decode("ascii", "replace")
