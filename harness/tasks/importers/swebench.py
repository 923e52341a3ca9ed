"""SWE-bench and its family: rows in JSON, JSON Lines or Parquet, an `instance_id` each.

Where a row names no image, its family's naming counts. Sources: swebench 5.0.2 (image_builder/image_spec.py) and the
READMEs of multi-swe-bench, SWE-bench-Live and SWE-smith.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers.importer import Importer, Row, Source

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
IMAGES = ("image", "docker_image", "image_name")
MULTI_KEYS = {"org", "repo", "number"}
LIVE = "starryzhang"
SMITH = "jyangballin"
# A row holds patches and the names of tests.
MAX_LINE = 16 << 20
# Of Parquet, where little can stand for much. What is needed of a row, and what need only be there.
MAX_ROWS, MAX_COLUMNS, MAX_CELL, BATCH = 1_000_000, 256 << 20, 64 << 10, 1024
NEEDED = ("instance_id", *IMAGES, "base_commit", "repo", "org", "number", "base.sha")
PRESENT = ("test_cmds", "log_parser", "pull_number")


def recognises(source: Source) -> bool:
    path = source.path
    if path.suffix == ".parquet":
        return path.is_file()
    told = yaml_tree.glimpse(path) if path.suffix in SUFFIXES else ""
    return '"instance_id"' in told or all(f'"{key}"' in told for key in MULTI_KEYS)


def load(source: Source) -> Iterator[Row]:
    """The rows, in the file's order; with `predictions`, those of a predictions file alone. Raises UsageError."""
    wanted = _predicted(source)
    family = source.options.get("family")
    if family is not None and family not in FAMILIES:
        raise source.fail(f"there is no family {family!r}; there are {', '.join(FAMILIES)}", field="family")
    seen = set()
    for line, row in _rows(source):
        if not isinstance(row, dict):
            raise source.fail("a row must be an object", line=line)
        named = _family(row) if family is None else family
        task_id = (
            _text(source, row, "instance_id", line)
            if "instance_id" in row or named != "multi"
            else _multi_id(source, row, line)
        )
        seen.add(task_id)
        if wanted is not None and task_id not in wanted:
            continue
        yield Row(FAMILIES[named](source, {**row, "instance_id": task_id}, line), source.text, line)
    if not seen:
        raise source.fail("holds no rows: expected objects with an instance_id")
    if wanted is not None and (unknown := sorted(wanted - seen)):
        raise source.fail(
            f"holds ids that {source.text} doesn't: {', '.join(unknown[:5])}", file=source.options["predictions"]
        )


def _bench(source: Source, row: dict[str, Any], line: int, namespace: str = "swebench") -> dict[str, Any]:
    task_id = row["instance_id"]
    # The registry allows no two underscores in a row.
    published = f"{namespace}/sweb.eval.x86_64.{task_id}:latest".lower().replace("__", "_1776_")
    return _fields(source, row, line, published, row.get("base_commit"), "/testbed")


def _live(source: Source, row: dict[str, Any], line: int) -> dict[str, Any]:
    return _bench(source, row, line, LIVE)


def _smith(source: Source, row: dict[str, Any], line: int) -> dict[str, Any]:
    """An id is REPO.COMMIT.BUG, and there is an image for each REPO.COMMIT."""
    repository = row["instance_id"].rpartition(".")[0].replace("__", "_1776_").lower()
    return _fields(
        source, row, line, f"{SMITH}/swesmith.x86_64.{repository}:latest", row.get("base_commit"), "/testbed"
    )


def _multi(source: Source, row: dict[str, Any], line: int) -> dict[str, Any]:
    org, repo = (_text(source, row, name, line) for name in ("org", "repo"))
    base = row.get("base")
    commit = base.get("sha") if isinstance(base, dict) else row.get("base_commit")
    return _fields(
        source, row, line, f"mswebench/{org}_m_{repo}:pr-{row.get('number')}".lower(), commit, f"/home/{repo}"
    )


def _multi_id(source: Source, row: dict[str, Any], line: int) -> str:
    return f"{_text(source, row, 'org', line)}__{_text(source, row, 'repo', line)}-{row.get('number')}"


FAMILIES: dict[str, Callable[[Source, dict[str, Any], int], dict[str, Any]]] = {
    "swebench": _bench,
    "live": _live,
    "smith": _smith,
    "multi": _multi,
}


def _family(row: dict[str, Any]) -> str:
    """By the fields that only this family's rows have."""
    if row.keys() >= MULTI_KEYS:
        return "multi"
    if str(row.get("repo", "")).startswith("swesmith/") or "swesmith" in str(row.get("image_name", "")):
        return "smith"
    if "test_cmds" in row or ("log_parser" in row and "pull_number" in row):
        return "live"
    return "swebench"


def _fields(
    source: Source, row: dict[str, Any], line: int, published: str, commit: Any, repository: str
) -> dict[str, Any]:
    image = next((row[name] for name in IMAGES if row.get(name)), published)
    if not isinstance(image, str):
        raise source.fail("must be text", line=line, field="image")
    fields = {"id": row["instance_id"], "image": image, "repo_path": repository, "platform": "linux/amd64"}
    return {**fields, "base_commit": commit} if commit else fields


def _text(source: Source, row: dict[str, Any], name: str, line: int) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise source.fail("is missing" if value is None else "must be text", line=line, field=name)
    return value


def _predicted(source: Source) -> set[str] | None:
    """The ids of a predictions file: a mapping by id, or rows with an instance_id."""
    where = source.options.get("predictions")
    if where is None:
        return None
    found = set()
    for line, row in _rows(Source(where)):
        task_id = row.get("instance_id") if isinstance(row, dict) else None
        if not isinstance(task_id, str):
            raise source.fail("must be text", file=where, line=line, field="instance_id")
        found.add(task_id)
    return found


def _rows(source: Source) -> Iterator[tuple[int, Any]]:
    """Line (or number) and row. A JSON document may be a list, or a mapping by id."""
    path = source.path
    if path.suffix == ".parquet":
        yield from _parquet(source)
        return
    if path.suffix in (".jsonl", ".ndjson"):
        for number, line in yaml_tree.lines(yaml_tree.read(path)):
            if len(line) > MAX_LINE:
                raise source.fail(f"the line is longer than {MAX_LINE >> 20} MiB", line=number)
            yield number, _json(source, line, number)
        return
    told = _json(source, yaml_tree.read(path, most=yaml_tree.MAX_DOCUMENT), None)
    if isinstance(told, dict) and all(isinstance(value, dict) for value in told.values()):
        told = [{"instance_id": name, **value} for name, value in told.items()]
    if not isinstance(told, list):
        raise source.fail("must be a list of rows, or a mapping of them by id")
    yield from enumerate(told, 1)


def _json(source: Source, data: bytes, line: int | None) -> Any:
    try:
        told = yaml_tree.parse_json(data)
    except (ValueError, RecursionError) as error:
        place = getattr(error, "lineno", 1) if line is None else line
        raise source.fail(f"is no JSON: {error}", line=place) from error
    return yaml_tree.check(told, source.text, line)


def _parquet(source: Source) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise source.fail("Parquet needs pyarrow: pip install 'taskgate[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(source.path) as file:
            told, leaves = _told(file), _leaves(source, file)
        # A text that stands in a thousand rows is one text of the file: so it stays, and is looked at first.
        with pyarrow.parquet.ParquetFile(source.path, read_dictionary=leaves) as file:
            number = 0
            for batch in file.iter_batches(batch_size=BATCH, columns=leaves):
                _bounded(source, batch)
                for row in batch.to_pylist():
                    number += 1
                    if number > MAX_ROWS:
                        raise source.fail(f"holds more than {MAX_ROWS:,} rows")
                    yield number, {**told, **row}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise source.fail(f"is no Parquet, or is damaged: {error}") from error


def _told(file: Any) -> dict[str, None]:
    """The columns that say of which family a row is by being there."""
    return {name: None for name in PRESENT if name in file.schema_arrow.names}


def _leaves(source: Source, file: Any) -> list[str]:
    """The columns to read: patches and problem statements are most of such a file. Raises UsageError."""
    if file.metadata.num_rows > MAX_ROWS:
        raise source.fail(f"holds more than {MAX_ROWS:,} rows")
    columns = [file.schema.column(place) for place in range(len(file.schema))]
    flat = {one.path: place for place, one in enumerate(columns) if not one.max_repetition_level}
    found = [name for name in NEEDED if name in flat]
    for name in NEEDED:
        if name in file.schema_arrow.names and name not in found:
            raise source.fail("must be text", field=name)
    for name in found:
        if columns[flat[name]].physical_type == "FIXED_LEN_BYTE_ARRAY":
            raise source.fail("must be text", field=name)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    if sum(group.column(flat[name]).total_uncompressed_size for group in groups for name in found) > MAX_COLUMNS:
        raise source.fail(f"its ids, images and commits are larger than {MAX_COLUMNS >> 20} MiB")
    return found


def _bounded(source: Source, batch: Any) -> None:
    """Raises UsageError for a cell that is too long."""
    import pyarrow.compute

    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        texts = column.field("sha") if name == "base" else column
        texts = getattr(texts, "dictionary", texts)
        if pyarrow.types.is_string(texts.type) or pyarrow.types.is_binary(texts.type):
            longest = pyarrow.compute.max(pyarrow.compute.binary_length(texts)).as_py()
            if (longest or 0) > MAX_CELL:
                raise source.fail(f"holds a text of more than {MAX_CELL >> 10} KiB", field=name)


IMPORTER = Importer(
    "swebench", "rows of SWE-bench, multi-swe-bench, SWE-bench-Live or SWE-smith in .json, .jsonl or .parquet",
    recognises, load, ("predictions", "family"),
)  # fmt: skip
