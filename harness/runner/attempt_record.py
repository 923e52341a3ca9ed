"""What is written down while an attempt is under way, so that the next start can go on where a killed run was."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from taskgate.harness.base import files
from taskgate.harness.base.out_files import ATTEMPT
from taskgate.harness.runner.folders import Folders


@dataclass(slots=True)
class AttemptRecord:
    """`attempt.json` in the attempt's folder.

    `engine` is a URL without secrets, `container` and `exec` are the engine's ids; `before` is what the image has in
    the submission's place. `ended` is set once the agent has ended and nothing in its container changes any more:
    `exit_status`, `stopped`, `calls_spent`, `seconds`, `calls`.
    """

    task_id: str
    image: str
    digests: list[str]
    config: str
    run: str
    started: str
    number: int
    engine: str = ""
    container: str | None = None
    exec: str | None = None
    folders: dict[str, str | None] = field(default_factory=dict)
    before: dict[str, Any] | None = None
    ended: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Raises InfraError, NoSpace."""
        try:
            files.write(folder / ATTEMPT, json.dumps(asdict(self)).encode())
        except OSError as error:
            raise files.trouble(folder / ATTEMPT, error) from error

    @classmethod
    def read(cls, folder: Path) -> AttemptRecord | None:
        """None where nothing readable is."""
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            record = cls(**files.read_document(folder / ATTEMPT))
            if isinstance(record.task_id, str) and isinstance(record.folders, dict):
                return record
        return None

    @property
    def places(self) -> Folders:
        """Where the agent left its files."""
        return Folders(str(self.folders.get("out")), self.folders.get("given"), self.folders.get("submission"))
