"""Harbor and Terminal-Bench 2: solution/solve.sh, then tests/test.sh, which writes its reward to /logs/verifier.

`proof.source` is the task's folder. Source: the package `harbor` 0.25.0, agents/oracle.py, verifier/verifier.py and
models/trial/paths.py.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.proof.plan import Command, Outcome, Plan, Put, Traces
from taskgate.harness.proof.run import RunStatus
from taskgate.harness.tasks.task import Task

LOGS = "/logs/verifier"
REWARD_TEXT, REWARD_JSON = f"{LOGS}/reward.txt", f"{LOGS}/reward.json"
FOLDERS = "mkdir -p /logs/agent /logs/verifier /logs/artifacts && chmod 777 /logs/agent /logs/verifier /logs/artifacts"
VERIFIER_SECONDS = 600.0
MAX_TOML = 4 << 20
MAX_REWARD = 1 << 20


def plan(task: Task) -> Plan:
    """Raises UsageError where the task's folder lacks a script or its task.toml can't be read."""
    proof = task.proof
    assert proof is not None
    if proof.source is None:
        raise UsageError("is missing: the task's folder", field=f"{task.id}.proof.source")
    folder = Path(proof.source)
    about = _about(folder)
    if about.get("steps"):
        raise UsageError("tasks of several steps can't be proven", file=str(folder / "task.toml"), field="steps")
    solve, test = folder / "solution/solve.sh", folder / "tests/test.sh"
    for script in (solve, test):
        if not script.is_file():
            raise UsageError("does not exist", file=str(script))
    verifier = _table(about, "verifier")
    user = verifier.get("user")
    seconds = verifier.get("timeout_sec", VERIFIER_SECONDS)
    solution_env = {"DEBIAN_FRONTEND": "noninteractive", **_env(_table(about, "solution"))}
    return Plan(
        solve=[
            Command(("/bin/sh", "-c", FOLDERS), 60.0, required=True),
            Put("/solution", folder / "solution"),
            # A solution that ends with an error is verified all the same, as Harbor does.
            Command(_script("/solution/solve.sh"), proof.timeout, environment=solution_env),
        ],
        prepare=[
            Command(("/bin/sh", "-c", f"{FOLDERS} && rm -f {REWARD_TEXT} {REWARD_JSON}"), 60.0, required=True),
            Put("/tests", folder / "tests"),
        ],
        test=Command(
            _script("/tests/test.sh"),
            float(seconds),
            user=None if user is None else str(user),
            environment=_env(verifier),
        ),
        read=_read,
    )


def _script(path: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", f"chmod +x {path} 2>/dev/null; exec {path}")


def _read(traces: Traces) -> Outcome:
    """A reward of 1 is a success; of several, each must be 1."""
    try:
        if (data := traces.fetch(REWARD_JSON, MAX_REWARD)) is not None:
            rewards = json.loads(data)
        elif (data := traces.fetch(REWARD_TEXT, MAX_REWARD)) is not None:
            rewards = float(data)
        else:
            return Outcome(RunStatus.FAILED, f"the tests left no reward (status {traces.exit_status})")
    except (ValueError, RecursionError) as error:
        return Outcome(RunStatus.FAILED, f"the reward can't be read: {error}")
    return _graded(rewards if isinstance(rewards, dict) else {"reward": rewards})


def _graded(rewards: Mapping[str, Any]) -> Outcome:
    bad = {
        name: value
        for name, value in rewards.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    }
    if bad or not rewards:
        return Outcome(RunStatus.FAILED, f"the reward is not a number: {str(rewards)[:200]}")
    tests = {str(name): "passed" if value >= 1 else "failed" for name, value in rewards.items()}
    short = [f"{name} {value:g}" for name, value in rewards.items() if value < 1]
    if short:
        return Outcome(RunStatus.FAILED, f"less than the full reward: {', '.join(short[:5])}", tests)
    return Outcome(RunStatus.PASSED, None, tests)


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "task.toml"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML + 1)
        if len(data) > MAX_TOML:
            raise UsageError(f"is larger than {MAX_TOML >> 20} MiB", file=str(path))
        return tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"can't be read: {error.strerror}", file=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not TOML: {error}", file=str(path)) from error


def _table(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = about.get(name)
    return table if isinstance(table, dict) else {}


def _env(table: Mapping[str, Any]) -> dict[str, str]:
    """Values from the host's environment (`${NAME}`) are left out: a proof uses no secrets."""
    env = table.get("env")
    return {k: str(v) for k, v in env.items() if "${" not in str(v)} if isinstance(env, dict) else {}
