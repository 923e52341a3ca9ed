"""What is fuzzed, by name: each takes any bytes, and raises nothing but what taskgate raises on purpose."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from taskgate.harness.base import escape
from taskgate.harness.base.errors import InfraError, TaskgateError, TransferError
from taskgate.harness.engine.attach_stream import AttachStream
from taskgate.harness.engine.image_request import ImageRequest
from taskgate.harness.engine.registries import registry_client, registry_lookup
from taskgate.harness.engine.registries.reference import Reference, base_url
from taskgate.harness.gate.cache import VerdictCache
from taskgate.harness.gate.skip_entry import Entry
from taskgate.harness.gate.skip_text import TextSkipList
from taskgate.harness.runner import submissions
from taskgate.harness.runner.completion import Unfinished
from taskgate.harness.sandbox import archive
from taskgate.harness.sandbox.shell import Excerpt, Shell, ShellDied
from taskgate.harness.tasks import task_set, yaml_tree
from taskgate.harness.tasks.manifest import _Builder
from taskgate.reports import journal

# In its place a hostile shell's output holds the nonce, which only such a shell knows.
NONCE = b"NONCE"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tg-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name)


def manifest(data: bytes) -> None:
    with contextlib.suppress(TaskgateError):
        builder = _Builder("m")
        builder.document(yaml_tree.parse_yaml(data, "m"))
        builder.result()


def lines(data: bytes) -> None:
    with contextlib.suppress(TaskgateError):
        builder = _Builder("m")
        builder.lines(data)
        builder.result()


def skip_list(data: bytes) -> None:
    """What can be read can be written, and the entry is there then."""
    with _folder() as folder, contextlib.suppress(TaskgateError):
        (folder / "list").write_bytes(data)
        made = TextSkipList(folder / "list")
        before = made.read()
        made.update([Entry("added", check="shell")], [])
        assert made.read().keys() == before.keys() | {"added"}


def frames(data: bytes) -> None:
    """The pieces are what a reader of the whole stream would find."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(data[:65536])
        there.close()
        reader, found = AttachStream(here), b""
        while (parts := reader.read(1.0)) is not None:
            found += b"".join(part for _, part in parts)
    assert found == b"".join(_payloads(data[:65536]))


def _payloads(data: bytes) -> Iterator[bytes]:
    while len(data) >= 8:
        size = int.from_bytes(data[4:8], "big")
        yield data[8 : 8 + size]
        data = data[8 + size :]


def shell(data: bytes) -> None:
    """Whatever a shell says of itself, an exit status or its end comes of it, in bounded memory."""
    here, there = socket.socketpair()
    with here, there:
        made = Shell(AttachStream(here), lambda: None)
        said = data[:30000].replace(NONCE, made._nonce.encode())
        there.sendall(b"\x01\0\0\0" + len(said).to_bytes(4, "big") + said)
        there.close()
        kept = Excerpt()
        try:
            assert 0 <= (made._collect(1, kept, time.monotonic() + 60) or 0) < 1000
        except ShellDied:
            assert len(made._pending) <= 64


def tar(data: bytes) -> None:
    """Nothing is written outside of the folder."""
    with _folder() as folder:
        (folder / "in").mkdir()
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as stream:
                archive.unpack(stream, folder / "in/it", max_bytes=1 << 20, max_entries=100)
        except (TransferError, tarfile.TarError, OSError):
            pass
        assert {path.name for path in folder.iterdir()} == {"in"}
        assert {path.name for path in (folder / "in").iterdir()} <= {"it"}


def submission(data: bytes) -> None:
    with _folder() as folder, contextlib.suppress(Unfinished):
        (folder / "submission.tar.gz").write_bytes(data)
        submissions.inspect(folder / "submission.tar.gz")


def _archive() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(tarfile.TarInfo("a" * 120))
    return held.getvalue()[:2048]


def reference(data: bytes) -> None:
    with contextlib.suppress(TaskgateError):
        found = Reference.parse(data.decode("utf-8", "replace"))
        base_url(found.registry)
        registry_client._manifest(found)


def registry(data: bytes) -> None:
    """Headers, as latin-1 brings them."""
    text = data.decode("latin-1")
    asked = registry_client.Client("registry.example.com")
    for read in (
        registry_client._challenged,
        registry_client._seconds,
        lambda link: asked._following("/v2/_catalog", link),
    ):
        with contextlib.suppress(TaskgateError):
            read(text)


def answers(data: bytes) -> None:
    """Bodies, of whatever JSON."""
    registry_client._error_text(data)
    with contextlib.suppress(TaskgateError):
        told = registry_client._object(data, "an answer")
        registry_client._texts(told, "tags")
        registry_lookup._platform(told)
        registry_lookup._chosen(told, ImageRequest("image"))


def records(data: bytes) -> None:
    """Lines of a journal and of a cache: what is taken for a record can be written and shown."""
    with _folder() as folder, contextlib.suppress(InfraError):
        (folder / "lines").write_bytes(data)
        for record in VerdictCache(folder / "lines", None).all():
            json.dumps(record.as_dict())
            escape.line(f"{record.task_id}{record.reason}")
        list(journal.read(folder / "lines"))


def _file(name: str) -> Callable[[bytes], None]:
    def source(data: bytes) -> None:
        with _folder() as folder, contextlib.suppress(TaskgateError):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            (folder / "task/Dockerfile").parent.mkdir(exist_ok=True)
            (folder / "task/Dockerfile").write_text("FROM scratch\n")
            if "compose" in name:
                (folder / "task/task.yaml").write_text("instruction: x\n")
            task_set.read(str(folder if "/" in name else folder / name))

    return source


# What to begin with: an input that is right, or nearly.
SEEDS: dict[str, bytes] = {
    "manifest": b"version: 1\ndefaults: &d {timeout: 3, env: {A: b}}\ntasks:\n- {<<: *d, id: a, image: x}\n- demo/one:1\n",
    "lines": b'{"version": 1, "defaults": {"limits": {"memory": "4g"}}}\n{"id": "a", "image": "x", "agent": {"run": "a b"}}\n',
    "skip_list": b'# {"task_id": "a", "check": "shell"}\na\n\n# by hand\nb\n',
    "frames": b"\1\0\0\0\0\0\0\2ab\2\0\0\0\0\0\0\1c",
    "shell": b"out\nNONCE 0 0\nmore\nNONCE 1 7\n",
    "submission": _archive(),
    "registry": b'Bearer realm="https://a.example/token",service="s",scope="x"',
    "answers": b'{"tags": ["a"], "errors": [{"code": "X"}], "manifests": [{"digest": "d", "platform": {"os": "linux"}}]}',
    "reference": b"registry.example:5000/a/b:tag@sha256:00",
    "records": b'{"fingerprint": "f", "evidence": null, "record": {"task_id": "a", "image": "i", "digest": "d", "platform": null,'
    b' "verdict": "broken", "check": "c", "reason": "r", "hint": null, "findings": [{"check": "c", "outcome": "fail",'
    b' "reason": null, "seconds": 1}], "seconds": 1, "cached": false, "started": "2020-01-01T00:00:00+00:00"}}\n',
    "harbor": b'[task]\nname = "a"\n[environment]\ndocker_image = "x"\nmemory_mb = 1\nenv = {A = "b"}\n[agent]\ntimeout_sec = 1.5\n',
    "compose": b"services:\n  client:\n    working_dir: /w\n    build: {context: ., dockerfile: Dockerfile, args: [A=b]}\n",
    "rows": b'{"instance_id": "a__b-1", "base_commit": "abc"}\n{"org": "a", "repo": "b", "number": 1, "base": {"sha": "c"}}\n',
    "escape": "\x1b[2J::error::x\n##[x]\u202e".encode(),
}
TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": manifest,
    "lines": lines,
    "skip_list": skip_list,
    "frames": frames,
    "shell": shell,
    "tar": tar,
    "submission": submission,
    "reference": reference,
    "registry": registry,
    "answers": answers,
    "records": records,
    "harbor": _file("task/task.toml"),
    "compose": _file("task/docker-compose.yaml"),
    "rows": _file("rows.jsonl"),
    "escape": lambda data: _escaped(data.decode("utf-8", "surrogateescape")),
}


def _escaped(text: str) -> None:
    """No control character is left, and no line that a CI job takes for a command."""
    for shown in (escape.line(text), *escape.message(text).split("\n"), *escape.output(text).split("\n")):
        assert shown.isprintable() or not set(shown) & set(map(chr, range(32)))
        assert not shown.lstrip().startswith("::") and "##[" not in shown
