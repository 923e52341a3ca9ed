"""SWE-bench and its family: rows in JSON, JSON Lines or Parquet, an `instance_id` each; or a task repository.

Where a row names no image, its family's naming counts: see swebench_families.py. A task repository has a sweb.yaml and
a tasks/ID/task.yaml each: the package `swebench` 5.0.2, task/repo.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskgate.harness.tasks import yaml_tree
from taskgate.harness.tasks.importers import swebench_families as families
from taskgate.harness.tasks.importers.importer import Importer, Row, Source
from taskgate.harness.tasks.importers.swebench_families import FAMILIES, IMAGES, MULTI_KEYS, R2E_KEYS

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
CONFIG, TASK = "sweb.yaml", "task.yaml"
# A row holds patches and the names of tests.
MAX_LINE = 16 << 20
# Of Parquet, where little can stand for much. What is needed of a row, and what need only be there.
MAX_ROWS, MAX_COLUMNS, MAX_CELL, BATCH = 1_000_000, 256 << 20, 64 << 10, 1024
NEEDED = (
    *("instance_id", *IMAGES, "base_commit", "repo", "org", "number", "base.sha"),
    *("dockerhub_tag", "repo_name", "commit_hash", "platform", "tag", "number_interval"),
)
PRESENT = ("test_cmds", "log_parser", "pull_number", "install_config")


def recognises(source: Source) -> bool:
    path = source.path
    if path.suffix == ".parquet":
        return path.is_file()
    if path.is_dir():
        return (path / CONFIG).is_file() and any(path.glob(f"tasks/*/{TASK}"))
    start = yaml_tree.glimpse(path) if path.suffix in SUFFIXES else ""
    return '"instance_id"' in start or any(all(f'"{key}"' in start for key in keys) for keys in (MULTI_KEYS, R2E_KEYS))


def load(source: Source) -> Iterator[Row]:
    """The rows, in the file's order; with `predictions`, those of a predictions file alone. Raises UsageError."""
    wanted = _predicted(source)
    family = source.options.get("family")
    if family is not None and family not in FAMILIES:
        raise source.fail(f"there is no family {family!r}; there are {', '.join(FAMILIES)}", field="family")
    seen = set()
    for file, line, content in _contents(source):
        if not isinstance(content, dict):
            raise source.fail("a row must be an object", file=file, line=line)
        named = families.family_of(content) if family is None else family
        row = families.Row(source, content, line)
        task_id = families.id_of(row, named)
        seen.add(task_id)
        if wanted is not None and task_id not in wanted:
            continue
        row.content = {**content, "instance_id": task_id}
        fields = {"id": task_id, **FAMILIES[named](row)}
        if harness := families.HARNESSES.get(named):
            fields["proof"] = {"harness": harness, "source": str(source.path.absolute()), "row": task_id}
        yield Row({name: value for name, value in fields.items() if value or name == "repo_path"}, file, line)
    if not seen:
        raise source.fail("holds no rows: expected objects with an instance_id")
    if wanted is not None and (unknown := sorted(wanted - seen)):
        raise source.fail(
            f"holds ids that {source.text} doesn't: {', '.join(unknown[:5])}", file=source.options["predictions"]
        )


def _contents(source: Source) -> Iterator[tuple[str, int, Any]]:
    """File, line (or number) and content of each row."""
    if source.path.is_dir():
        yield from _task_repository(source)
    else:
        for line, content in _rows(source):
            yield source.text, line, content


def _task_repository(source: Source) -> Iterator[tuple[str, int, Any]]:
    """What it publishes: the tasks of a split and of a dataset that sweb.yaml names. Raises UsageError."""
    config_file = source.path / CONFIG
    config = yaml_tree.plain_yaml(config_file)
    datasets = config.get("datasets") if isinstance(config, dict) else None
    if not isinstance(datasets, list | dict) or not datasets:
        raise source.fail("must name the datasets", file=config_file, field="datasets")
    known = set(map(str, datasets))
    splits = set(map(str, config.get("splits") or ["test"]))
    for option, names in (("dataset", known), ("split", splits)):
        if (given := source.options.get(option)) is not None:
            if given not in names:
                raise source.fail(f"there is no {given!r}; there are {', '.join(sorted(names))}", field=option)
            names.intersection_update([given])
    for file in sorted(source.path.glob(f"tasks/*/{TASK}")):
        content = yaml_tree.plain_yaml(file)
        if not isinstance(content, dict):
            raise source.fail("must be a mapping", file=file)
        claimed = content.get("datasets")
        if content.get("split") in splits and isinstance(claimed, list) and known.intersection(map(str, claimed)):
            yield str(file), 1, {"instance_id": file.parent.name, **content}


def _predicted(source: Source) -> set[str] | None:
    """The ids of a predictions file: a mapping by id, or rows with an instance_id."""
    where = source.options.get("predictions")
    if where is None:
        return None
    ids = set()
    for line, row in _rows(Source(where)):
        task_id = row.get("instance_id") if isinstance(row, dict) else None
        if not isinstance(task_id, str):
            raise source.fail("must be text", file=where, line=line, field="instance_id")
        ids.add(task_id)
    return ids


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
    content = _json(source, yaml_tree.read(path, most=yaml_tree.MAX_DOCUMENT), None)
    if isinstance(content, dict) and all(isinstance(value, dict) for value in content.values()):
        content = [{"instance_id": name, **value} for name, value in content.items()]
    if not isinstance(content, list):
        raise source.fail("must be a list of rows, or a mapping of them by id")
    yield from enumerate(content, 1)


def _json(source: Source, data: bytes, line: int | None) -> Any:
    try:
        content = yaml_tree.parse_json(data)
    except (ValueError, RecursionError) as error:
        place = getattr(error, "lineno", 1) if line is None else line
        raise source.fail(f"is not JSON: {error}", line=place) from error
    return yaml_tree.check(content, source.text, line)


def _parquet(source: Source) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise source.fail("Parquet needs pyarrow: pip install 'taskgate[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(source.path) as file:
            content, leaves = _content(file), _leaves(source, file)
        # A text that stands in a thousand rows is one text of the file: so it stays, and is looked at first.
        with pyarrow.parquet.ParquetFile(source.path, read_dictionary=leaves) as file:
            number = 0
            for batch in file.iter_batches(batch_size=BATCH, columns=leaves):
                _bounded(source, batch)
                for row in batch.to_pylist():
                    number += 1
                    if number > MAX_ROWS:
                        raise source.fail(f"holds more than {MAX_ROWS:,} rows")
                    yield number, {**content, **row}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise source.fail(f"is not Parquet, or is damaged: {error}") from error


def _content(file: Any) -> dict[str, None]:
    """The columns that say of which family a row is by being there."""
    return {name: None for name in PRESENT if name in file.schema_arrow.names}


def _leaves(source: Source, file: Any) -> list[str]:
    """The columns to read: patches and problem statements are most of such a file. Raises UsageError."""
    if file.metadata.num_rows > MAX_ROWS:
        raise source.fail(f"holds more than {MAX_ROWS:,} rows")
    columns = [file.schema.column(place) for place in range(len(file.schema))]
    flat = {column.path: place for place, column in enumerate(columns) if not column.max_repetition_level}
    needed = [name for name in NEEDED if name in flat]
    for name in NEEDED:
        if name in file.schema_arrow.names and name not in needed:
            raise source.fail("must be text", field=name)
    for name in needed:
        if columns[flat[name]].physical_type == "FIXED_LEN_BYTE_ARRAY":
            raise source.fail("must be text", field=name)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    if sum(group.column(flat[name]).total_uncompressed_size for group in groups for name in needed) > MAX_COLUMNS:
        raise source.fail(f"its ids, images and commits are larger than {MAX_COLUMNS >> 20} MiB")
    return needed


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
    "swebench", "rows of SWE-bench and its family in .json, .jsonl or .parquet, or a folder with sweb.yaml",
    recognises, load, ("predictions", "family", "dataset", "split", "org", "platform"),
)  # fmt: skip
