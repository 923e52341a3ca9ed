"""What is known already: the newer of two statements holds, and no registry is asked for nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskgate.checks import _registry as registry
from taskgate.harness.base.errors import EngineUnavailable
from taskgate.harness.engine.client import Engine
from taskgate.harness.engine.registries.registry_lookup import RegistryLookup
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.known_verdicts import KnownVerdicts
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.verdict import Outcome, Record, Verdict, finding
from taskgate.harness.tasks.task import Task

OLD, NOW, NEW = (f"2026-0{month}-01T00:00:00.000+00:00" for month in (1, 2, 3))
DIGEST, PRINT = "sha256:1", "f"
TASK = Task("one", "i:1")


def known(folder: Path, last: str, *, digest: str = DIGEST, fingerprint: str = PRINT) -> KnownVerdicts:
    """Cached as healthy since NOW, and on the list as broken since `last`."""
    cache = VerdictCache(folder / "cache.jsonl", None)
    record = Record("one", "i:1", DIGEST, None, Verdict.HEALTHY, started=NOW, fingerprint=PRINT)
    record.findings = [finding("tmp", Outcome.PASS, None, 0.0)]
    cache.put(record)
    entry = Entry("one", "tmp", "no /tmp", "i:1", digest, fingerprint, last, last, "r")
    return KnownVerdicts(cache, {"one": entry}, max_age=None, list_name="list.txt")


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"last": NEW}, Verdict.BROKEN),
        ({"last": OLD}, Verdict.HEALTHY),
        ({"last": NEW, "digest": "sha256:2"}, Verdict.HEALTHY),
        ({"last": NEW, "fingerprint": "other settings"}, Verdict.HEALTHY),
    ],
)
def test_the_newer_of_two_statements(tmp_path: Path, given: dict[str, Any], verdict: Verdict) -> None:
    record = known(tmp_path, **given).get(TASK, DIGEST, PRINT)
    assert record is not None and record.verdict is verdict and record.cached


def test_an_entry_that_is_too_old() -> None:
    entry = Entry("one", "tmp", "no /tmp", "i:1", DIGEST, PRINT, OLD, OLD, "r")
    assert KnownVerdicts(None, {"one": entry}, max_age=timedelta(days=1)).get(TASK, DIGEST, PRINT) is None
    assert KnownVerdicts(None, {"one": entry}).get(TASK, DIGEST, PRINT) is not None


def test_an_id_by_hand_holds_for_every_image() -> None:
    record = KnownVerdicts(None, {"one": Entry("one")}, list_name="list.txt").by_hand(TASK)
    assert record is not None and (record.verdict, record.reason) == (Verdict.BROKEN, "listed by hand in list.txt")


@pytest.mark.parametrize("names", [[], ["image_exists"]], ids=["all checks", "image_exists alone"])
def test_no_registry_is_asked_while_the_engine_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    """Ten thousand questions for images of which nothing can be known anyway."""
    asked: list[Any] = []
    monkeypatch.setattr(RegistryLookup, "expect", lambda self, requests, **_: asked.extend(requests))

    def away() -> Engine:
        raise EngineUnavailable("no engine answers")

    checks = registry.chosen(registry.load(), names) if names else registry.load()
    gate = Gate(away, checks, session="s", known=known(tmp_path, NEW))
    gate.expect([Task(f"t{number}", f"registry.example/t{number}:1") for number in range(10)], shared=False)
    assert not asked
    gate.close()
