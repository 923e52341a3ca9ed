"""Who failed, and what counts as a result: read from what agents and their libraries write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from taskgate.harness.runner import blame, completion
from taskgate.harness.runner.completion import Ending, Unfinished
from taskgate.harness.runner.signatures import SIGNATURES, Party

AGENT, ENDPOINT, INFRA = Party.AGENT, Party.ENDPOINT, Party.INFRA


@pytest.mark.parametrize(
    ("status", "party"),
    [
        ("RateLimitError", ENDPOINT),
        ("litellm.exceptions.RateLimitError: 429", ENDPOINT),
        ("AuthenticationError", ENDPOINT),
        ("APIConnectionError", ENDPOINT),
        ("submitted (exit_api)", ENDPOINT),
        ("overloaded_error", ENDPOINT),
        ("insufficient_quota", ENDPOINT),
        ("STATUS$ERROR_LLM_OUT_OF_CREDITS", ENDPOINT),
        ("ContextWindowExceededError", AGENT),
        ("LimitsExceeded", AGENT),
        ("submitted (exit_cost)", AGENT),
        ("AgentStuckInLoopError", AGENT),
        ("exit_environment_error", INFRA),
        ("AgentRuntimeDisconnectedError", INFRA),
        ("infra_failure", INFRA),
        ("[Errno 28] No space left on device", INFRA),
    ],
)
def test_a_recorded_status(status: str, party: Party) -> None:
    failure = blame.of_status(status)
    assert failure and failure.party is party, failure


@pytest.mark.parametrize("status", ["submitted", "Submitted", "finished", "completed", "timeout", "", None, 7])
def test_a_status_that_is_no_failure_of_others(status: object) -> None:
    assert blame.of_status(status) is None


@pytest.mark.parametrize(
    ("line", "party"),
    [
        ("openai.RateLimitError: Error code: 429 - {'error': {'message': 'Rate limit reached'}}", ENDPOINT),
        ("anthropic.BadRequestError: Error code: 400 - Your credit balance is too low", ENDPOINT),
        ("litellm.exceptions.ServiceUnavailableError: litellm.ServiceUnavailableError", ENDPOINT),
        ("requests.exceptions.ConnectionError: Max retries exceeded with url: /v1", ENDPOINT),
        ("httpx.ConnectError: [Errno 111] Connection refused", ENDPOINT),
        ("Error: connect ECONNREFUSED 127.0.0.1:8399", ENDPOINT),
        ("litellm.ContextWindowExceededError: litellm.BadRequestError: RateLimitError", AGENT),
        ("OSError: [Errno 28] No space left on device", INFRA),
    ],
)
def test_the_end_of_a_log(line: str, party: Party) -> None:
    failure = blame.of_log(f"working\n{line}\n")
    assert failure and failure.party is party and failure.words in line
    # Of long ago.
    assert blame.of_log(line + "\nnext\n" * 30) is None


def test_what_anybody_prints_is_no_failure() -> None:
    text = "test_limits ... ok\n4290 passed in 503 s\nThe ratelimit module, status 200, error 42\nvalue: 401"
    assert blame.of_log(text) is None


def test_the_table_is_sound() -> None:
    """Every name is in one row, every pattern is a pattern, and every row says where its words come from."""
    names = [name for row in SIGNATURES for name in row.names]
    assert len(names) == len(set(names)) and all(row.source for row in SIGNATURES)
    for row in SIGNATURES:
        for text in row.texts:
            re.compile(text)
        for name in row.names:
            failure = blame.of_status(name)
            assert failure and failure.party is row.party, name


def _files(folder: Path, prediction: dict[str, Any], **trajectory: Any) -> blame.Statement:
    steps = trajectory.pop("steps", [{"act": 1}])
    (folder / "trajectory.json").write_text(json.dumps({"task_id": "a", "steps": steps, **trajectory}))
    (folder / "prediction.json").write_text(json.dumps({"instance_id": "a", **prediction}))
    return completion.read(folder, "a")


PATCH, EMPTY = {"model_patch": "diff --git a b"}, {"model_patch": ""}
SUBMITTED = {"info": {"exit_status": "Submitted", "submission": ""}}
LIMITED = {"info": {"exit_status": "RateLimitError"}}


@pytest.mark.parametrize(
    ("prediction", "trajectory", "ending", "party"),
    [
        # A patch counts if the agent ended well, was ended by a limit, or says that it submitted.
        (PATCH, {}, Ending(0), None),
        (PATCH, {}, Ending(1), AGENT),
        (PATCH, {}, Ending(139), AGENT),
        (PATCH, SUBMITTED, Ending(1), None),
        (PATCH, {}, Ending(None, "ran out of its 3 s"), None),
        (PATCH, {"exit_status": "LimitsExceeded"}, Ending(0), None),
        # What the endpoint or the infrastructure did is never done.
        (PATCH, LIMITED, Ending(0), ENDPOINT),
        (PATCH, {"exit_status": "submitted (exit_api)"}, Ending(0), ENDPOINT),
        (PATCH, {"error": "litellm.AuthenticationError: 401"}, Ending(0), ENDPOINT),
        (PATCH, {"infra_failure": "the server is down"}, Ending(0), INFRA),
        # But for the relay's own answer beyond the budget.
        (PATCH, LIMITED, Ending(0, calls_spent=True), None),
        (EMPTY, LIMITED, Ending(0, calls_spent=True), AGENT),
        # Nothing is a result only of an agent that says so.
        (EMPTY, SUBMITTED, Ending(0), None),
        (EMPTY, {"submitted": True}, Ending(0), None),
        ({**EMPTY, "status": "no_changes"}, {}, Ending(0), None),
        (EMPTY, {}, Ending(0), AGENT),
        (EMPTY, SUBMITTED, Ending(1), AGENT),
        (EMPTY, SUBMITTED, Ending(None, "ran out of its 3 s"), AGENT),
        (EMPTY, LIMITED, Ending(0), ENDPOINT),
        (EMPTY, {"exit_status": "ContextWindowExceededError"}, Ending(0), AGENT),
        (EMPTY, {**SUBMITTED, "steps": []}, Ending(0), AGENT),
        ({"model_patch": " \n"}, {}, Ending(0), AGENT),
        ({"model_patch": None}, {}, Ending(0), AGENT),
    ],
)
def test_results(
    tmp_path: Path, prediction: dict[str, Any], trajectory: dict[str, Any], ending: Ending, party: Party | None
) -> None:
    statement = _files(tmp_path, prediction, **trajectory)
    if party is None:
        completion.assess(statement, ending)
        return
    with pytest.raises(Unfinished) as caught:
        completion.assess(statement, ending)
    assert caught.value.party is party, caught.value
