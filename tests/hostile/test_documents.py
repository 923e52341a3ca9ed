"""Hostile manifests and task sets: each is a clear mistake with its file and field, or works, in bounded memory.

As a user runs it: `taskgate manifest`, in a process of its own that may have 3 GiB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import TASKGATE, harmless

HEAD = "version: 1\ntasks:\n"
HARBOR = "[environment]\ndocker_image = 'x'\n"
KIB = 3 << 20


def _told(folder: Path, source: str = ".") -> tuple[int, str]:
    """Exit status and what it says on stderr; never a traceback."""
    return _ran(folder, [*TASKGATE, "manifest", source, "-o", "made.yaml"])


def _gated(folder: Path, source: str) -> tuple[int, str]:
    """The same of the gate, which reads them in a plugin of pytest's."""
    return _ran(folder, [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", f"--images={source}"])


def _ran(folder: Path, command: list[str]) -> tuple[int, str]:
    shell = f'ulimit -v {KIB}; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *command],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert harmless(done.stdout + done.stderr)
    return done.returncode, done.stderr


MANIFESTS: dict[str, tuple[str, bytes | str, str]] = {
    "aliases": ("m.yaml", HEAD + "- &a0 {image: x}\n" + "".join(f"- &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 12)), "aliases"),
    "merge-aliases": ("m.yaml", HEAD + "- x\na0: &a0 {b: c}\n" + "".join(f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}\n" for n in range(1, 12)), "aliases"),
    "values": ("m.yaml", HEAD + "- {image: x, env: [" + "x," * 3_100_000 + "]}\n", "values"),
    "utf-16": ("m.yaml", b"\xff\xfe" + HEAD.encode("utf-16-le"), "is not a task set"),
    "huge-number": ("m.yaml", HEAD + f"- {{image: x, timeout: 1{'0' * 8000}}}\n", "tasks[0].timeout"),
    "huge-count": ("m.yaml", HEAD + f"- {{image: x, limits: {{pids: {'9' * 8000}}}}}\n", "limits.pids"),
    "image-as-comment": ("m.yaml", HEAD + "- '#x'\n- y\n", "tasks[0].image"),
    "image-as-folder": ("m.yaml", HEAD + "- '..'\n", "tasks[0].image"),
    "image-as-conflict": ("m.yaml", HEAD + "- '======='\n", "tasks[0].image"),
    "surrogate": ("m.jsonl", '{"id": "\\ud800", "image": "x"}\n', "id"),
    "nul": ("m.jsonl", '{"id": "a\\u0000b", "image": "x"}\n', "id"),
    "command": ("m.jsonl", '{"id": "x##[add-mask]y", "image": "x"}\n', "id: looks like a command"),
    "control": ("m.jsonl", '{"id": "a", "image": "x", "a\\u001b]0;b\\u0007\\n::error::c\\n##[add-mask]d": 1}\n', "unknown field"),
    "control-in-yaml": ("m.yaml", HEAD + '- {image: x, "a\\e]0;b\\n::error::c\\n##[add-mask]d": 1}\n', "unknown field"),
    "depth": ("m.jsonl", '{"id": "a", "image": "x", "env": ' + '{"a":' * 90 + "1" + "}" * 90 + "}\n", "deep"),
    "rows-depth": ("r.jsonl", '{"instance_id": "a", "base_commit": ' + "[" * 700 + "]" * 700 + "}\n", "deep"),
    "rows-number-depth": ("r.jsonl", '{"org": "a", "repo": "b", "number": ' + "[" * 900 + "]" * 900 + "}\n", "deep"),
    "rows-number": ("r.jsonl", '{"instance_id": "a", "base_commit": ' + "9" * 4000 + "}\n", "too large"),
    "rows-digits": ("r.jsonl", '{"instance_id": "a", "base_commit": ' + "9" * 9000 + "}\n", "JSON"),
    "rows-values": ("r.json", '[{"instance_id": "a", "x": [' + "0," * 4_000_000 + "0]}]", "values"),
    "rows-objects": ("r.jsonl", '{"instance_id": "a", "x": [' + "{}," * 5_000_000 + "{}]}", "values"),
    "rows-no-end": ("r.jsonl", '{"instance_id": "a", "x": "' + '\\",' * 4_000_000, "JSON"),
    "rows-line": ("r.jsonl", b'{"instance_id": "a", "x": "' + b"x" * (17 << 20) + b'"}', "longer than"),
    "harbor-hex": ("t/task.toml", HARBOR + f"memory_mb = 0x{'f' * 20000}\n", "too large"),
    "harbor-digits": ("t/task.toml", HARBOR + f"cpus = {'9' * 5000}\n", "TOML"),
    "harbor-env": ("t/task.toml", HARBOR + f"env = {{A = 0x{'f' * 20000}}}\n", "too large"),
    "harbor-parts": ("t/task.toml", HARBOR + f"env.a{'.a' * 100_000} = 1\n", "deep"),
    "harbor-quoted-parts": ("t/task.toml", HARBOR + f'env."a"{" . a" * 100_000} = 1\n', "deep"),
    "harbor-lists": ("t/task.toml", "a = " + "[" * 90 + "]" * 90 + "\n", "deep"),
}  # fmt: skip


@pytest.mark.parametrize("read", [_told, _gated], ids=["taskgate", "pytest"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_it_is_a_mistake_that_is_told(tmp_path: Path, name: str, read: Callable[[Path, str], tuple[int, str]]) -> None:
    file, text, said = MANIFESTS[name]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    status, told = read(tmp_path, "." if "/" in file else file)
    assert status == 4 and said in told and Path(file).name in told and len(told) < 2000, (status, told[:2000])


def test_commas_in_texts_are_no_values(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('[{"instance_id": "a", "patch": "' + ',[{\\"' * 1_200_000 + '"}]')
    assert _told(tmp_path, "r.json")[0] == 0


def _parquet(path: Path, **columns: tuple[list[int], list[Any]]) -> None:
    """Of each column, its values and which of them stands in which row: what a file says once, however often it counts."""
    import pyarrow
    import pyarrow.parquet

    made = {
        name: pyarrow.DictionaryArray.from_arrays(pyarrow.array(rows, pyarrow.int8()), pyarrow.array(values))
        for name, (rows, values) in columns.items()
    }
    if sha := made.pop("sha", None):
        made["base"] = pyarrow.StructArray.from_arrays([sha.dictionary_decode()], ["sha"])
    pyarrow.parquet.write_table(pyarrow.table(made), path, compression="zstd")


def test_parquet_of_few_bytes_and_many_rows(tmp_path: Path) -> None:
    _parquet(tmp_path / "r.parquet", instance_id=([0] * 1_500_000, ["same"]))
    assert (tmp_path / "r.parquet").stat().st_size < 100_000
    status, told = _told(tmp_path, "r.parquet")
    assert status == 4 and "r.parquet: holds more than 1,000,000 rows" in told


@pytest.mark.parametrize("name", ["image", "sha"])
def test_parquet_of_few_bytes_and_long_texts(tmp_path: Path, name: str) -> None:
    columns = {name: ([0] * 60, ["x" * (16 << 20)]), "instance_id": (list(range(60)), [f"a{n}" for n in range(60)])}
    _parquet(tmp_path / "r.parquet", **columns)
    assert (tmp_path / "r.parquet").stat().st_size < 100_000
    status, told = _told(tmp_path, "r.parquet")
    assert status == 4 and "holds a text of more than 64 KiB" in told, told[-2000:]


def test_parquet_of_large_columns(tmp_path: Path) -> None:
    rows = list(range(100))
    _parquet(tmp_path / "r.parquet", instance_id=(rows, [f"{n}{'x' * (3 << 20)}" for n in rows]))
    status, told = _told(tmp_path, "r.parquet")
    assert status == 4 and "are larger than 256 MiB" in told, told[-2000:]


def test_parquet_of_texts_that_are_none(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    offsets, text = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")
    ids = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, text])
    for made, said in ((ids, "is not Parquet, or is damaged"), (pyarrow.array([["a"]]), "instance_id: must be text")):
        pyarrow.parquet.write_table(pyarrow.table({"instance_id": made}), tmp_path / "r.parquet")
        status, told = _told(tmp_path, "r.parquet")
        assert status == 4 and said in told, told[-2000:]


@pytest.mark.parametrize("name", ["m.yaml", "m.jsonl", "m.json"])
def test_a_gigabyte(tmp_path: Path, name: str) -> None:
    """One line of zeros: it is seen to be nothing, and its holes are not filled."""
    with (tmp_path / name).open("wb") as file:
        file.write(b'{"instance_id": "image", "tasks": 0')
        file.truncate(1 << 30)
    status, told = _told(tmp_path, name)
    assert status == 4 and name in told


def test_many_blank_lines(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    many = b"\n" * ((400 if pytestconfig.option.long else 40) << 20)
    (tmp_path / "m.jsonl").write_bytes(b'{"image": "x"}' + many + b'{"image": "y"}')
    assert _told(tmp_path, "m.jsonl")[0] == 0
    assert (tmp_path / "made.yaml").read_text().count("image:") == 2


def test_what_looks_alike_is_not_one(tmp_path: Path) -> None:
    """Homoglyphs, and the same letter composed and decomposed: tasks of their own, each with a folder of its own."""
    from taskgate.harness.base.names import folder_name
    from taskgate.harness.tasks import manifest

    ids = ["task", "tаsk", "tаѕk", "é", "e\u0301", "a/b", "a%2Fb", "a\\b", ".a", "..a", "...", "run.json", "%"]
    (tmp_path / "m.yaml").write_text(HEAD + "".join(f"- {{id: '{task_id}', image: x}}\n" for task_id in ids))
    names = [folder_name(task.id) for task in manifest.load(tmp_path / "m.yaml")]
    assert len(set(names)) == len(ids)
    assert not any("/" in name or "\\" in name or name.startswith(".") for name in names)


COMPOSE: dict[str, str] = {
    "nul": 'services: {client: {build: {context: "a\\0b"}}}',
    "nul-dockerfile": 'services: {client: {build: {dockerfile: "a\\0b"}}}',
    "long": f"services: {{client: {{build: {{context: {'x' * 5000}}}}}}}",
    "loop": "services: {client: {build: {context: loop}}}",
    "above": "services: {client: {build: {context: ../..}}}",
    "root": "services: {client: {build: {context: /, dockerfile: etc/passwd}}}",
    "linked": "services: {client: {build: {context: out}}}",
    "linked-dockerfile": "services: {client: {build: {dockerfile: out/passwd}}}",
    "list": "services: [a]",
}


@pytest.mark.parametrize("name", COMPOSE)
def test_a_build_from_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    task = tmp_path / "task"
    task.mkdir()
    (task / "task.yaml").write_text("instruction: x\n")
    (task / "loop").symlink_to("loop")
    (task / "out").symlink_to("/etc")
    (task / "docker-compose.yaml").write_text(COMPOSE[name])
    status, told = _told(tmp_path)
    assert status == 4 and "docker-compose.yaml" in told and "services" in told, told


def test_the_environment_of_harbor_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "task/task.toml").write_text("[task]\nname = 'a'\n")
    (tmp_path / "task/environment").symlink_to("..")
    status, told = _told(tmp_path)
    assert status == 4 and "environment" in told


PLANTS: dict[str, Callable[[Path], Any]] = {
    "pipe": lambda path: os.mkfifo(path),
    "zeros": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize(
    ("name", "beside"),
    [("task.toml", HARBOR), ("task.yaml", "repository: a\ncommit: b\n"), ("task.yaml", "instruction: x\n")],
    ids=["harbor", "programbench", "terminalbench"],
)
def test_no_file_where_one_is_expected(tmp_path: Path, kind: str, name: str, beside: str) -> None:
    for folder in ("a__b.1", "c__d.2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "a__b.1" / name).write_text(beside)
    PLANTS[kind](tmp_path / "c__d.2" / name)
    status, told = _told(tmp_path)
    assert status == 4 and name in told, told
