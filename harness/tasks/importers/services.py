"""A service of a compose file, as a manifest's fields say it. What is taken from the host (`$`) is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import UsageError
from taskgate.harness.base.units import parse_size
from taskgate.harness.tasks.importers.importer import Source
from taskgate.harness.tasks.values import VARIABLE

# `$$` is compose's way to write one.
HOST = re.compile(r"(?<!\$)(?:\$\$)*\$(?!\$)")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Service:
    """`told` is what stands under `name` in `file`, nothing of which is to be trusted."""

    source: Source
    file: Path
    name: str
    told: Mapping[str, Any]

    def fields(self) -> dict[str, Any]:
        """Work directory, user, environment, network and limits, as far as they are told. Raises UsageError."""
        workdir = self.told.get("working_dir")
        found = {
            "workdir": workdir if isinstance(workdir, str) and workdir.startswith("/") else None,
            "user": self._text("user", str, int),
            "env": self._environment(),
            # No other network of this host is for a task set to choose.
            "network": "none" if self._text("network_mode", str) == "none" else None,
            "limits": {name: value for name, value in (("cpus", self._cpus()), ("memory", self._memory())) if value},
        }
        return {name: value for name, value in found.items() if value}

    def _text(self, key: str, *kinds: type) -> str | None:
        value = self.told.get(key)
        if value is None:
            return None
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self._fail("must be text" if kinds == (str,) else "must be text or a number", key)
        return self._literal(str(value), key)

    def _literal(self, text: str, key: str) -> str | None:
        if CONTROL.search(text):
            raise self._fail("holds a control character", key)
        return None if HOST.search(text) else text.replace("$$", "$")

    def _environment(self) -> dict[str, str]:
        told = self.told.get("environment") or {}
        if isinstance(told, list) and all(isinstance(one, str) for one in told):
            told = {name: value if equals else None for name, equals, value in (one.partition("=") for one in told)}
        if not isinstance(told, dict):
            raise self._fail("must be a mapping, or a list of NAME=VALUE", "environment")
        found = {}
        for name, value in told.items():
            key = f"environment.{name[:80]}"
            if not VARIABLE.fullmatch(name):
                raise self._fail("is no name of an environment variable", key)
            if isinstance(value, dict | list | bool):
                raise self._fail("must be text or a number", key)
            # Without a value it is the host's.
            if value is not None and (literal := self._literal(str(value), key)) is not None:
                found[name] = literal
        return found

    def _cpus(self) -> float | None:
        text = self._text("cpus", str, int, float)
        try:
            count = float(text) if text else 0.0
        except ValueError as error:
            raise self._fail("must be a number of processors", "cpus") from error
        if not 0 <= count <= 4096:
            raise self._fail("must be a number of processors", "cpus")
        # None at all is compose's word for all.
        return count or None

    def _memory(self) -> int | None:
        text = self._text("mem_limit", str, int)
        try:
            return parse_size(text) if text and text != "0" else None
        except ValueError as error:
            raise self._fail(str(error), "mem_limit") from error

    def _fail(self, problem: str, key: str) -> UsageError:
        return self.source.fail(problem, file=self.file, field=f"services.{self.name}.{key}")
