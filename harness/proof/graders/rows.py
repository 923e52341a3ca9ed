"""The rows of a data set by instance id: JSON, JSON Lines, Parquet, or a task repository of SWE-bench."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import UsageError

MULTI_KEYS = ("org", "repo", "number")


def row_of(source: str, row: str) -> dict[str, Any]:
    """A copy of the row. Raises UsageError."""
    known = _rows(source).get(row)
    if known is None:
        raise UsageError(f"has no row {row}", file=source)
    return dict(known)


def missing(row: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """The fields that a row lacks."""
    return [name for name in names if row.get(name) is None]


@lru_cache(4)
def _rows(source: str) -> dict[str, dict[str, Any]]:
    path = Path(source)
    if path.is_dir():
        return _task_repository(path)
    if path.suffix == ".parquet":
        return _parquet(path)
    try:
        data = path.read_bytes()
        if path.suffix in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in data.splitlines() if line.strip()]
        else:
            document = json.loads(data)
            rows = document if isinstance(document, list) else _named(document)
        return {_id(row): row for row in rows}
    except OSError as error:
        raise UsageError(f"can't be read: {error.strerror}", file=source) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"is not a list of rows with an instance_id: {error}", file=source) from error


def _named(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"instance_id": name, **row} for name, row in document.items()]


def _id(row: dict[str, Any]) -> str:
    """Rows of Multi-SWE-bench need not have an instance_id."""
    if "instance_id" not in row and all(key in row for key in MULTI_KEYS):
        return f"{row['org']}__{row['repo']}-{row['number']}"
    return str(row["instance_id"])


def _parquet(path: Path) -> dict[str, dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install 'taskgate[parquet]'", file=str(path)) from error
    try:
        return {_id(row): row for row in parquet.read_table(path).to_pylist()}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"is not Parquet with an instance_id: {error}", file=str(path)) from error


def _task_repository(path: Path) -> dict[str, dict[str, Any]]:
    """One directory per instance, see swebench.task.repo."""
    try:
        from swebench.task.repo import load_task, task_dirs
    except ImportError as error:
        raise UsageError("proofs of SWE-bench need its package: pip install 'taskgate[swebench]'") from error
    try:
        return {folder.name: load_task(folder) for folder in task_dirs(path)}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"is not a task repository: {error}", file=str(path)) from error
