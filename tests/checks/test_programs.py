"""What is read out of a program's first bytes, and out of what a dynamic loader prints."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgate.checks import _elf, _program

LOADER = b"/lib64/ld-linux-x86-64.so.2\0"


def elf(*, machine: int = 62, wide: bool = True, order: str = "<", loader: bytes | None = LOADER) -> bytes:
    """A header with at most one entry in its table, which names the loader behind it."""
    size, entry = (64, 56) if wide else (52, 32)
    head = (
        b"\x7fELF"
        + bytes([2 if wide else 1, 1 if order == "<" else 2])
        + bytes(10)
        + struct.pack(f"{order}HH", 2, machine)
    )
    head += struct.pack(f"{order}IQQQI" if wide else f"{order}IIIII", 1, 0, size, 0, 0)
    head += struct.pack(f"{order}HHH", size, entry, 1 if loader else 0)
    head = head.ljust(size, b"\0")
    if loader is None:
        return head.ljust(100, b"\0")
    if wide:
        table = struct.pack(f"{order}IIQQQQQQ", 3, 0, size + entry, 0, 0, len(loader), 0, 0)
    else:
        table = struct.pack(f"{order}IIIIIIII", 3, size + entry, 0, 0, len(loader), 0, 0, 0)
    return head + table + loader


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_header(wide: bool, order: str) -> None:
    assert _elf.parse(elf(machine=22, wide=wide, order=order)) == _elf.Elf("s390x", LOADER[:-1].decode())
    assert _elf.parse(elf(wide=wide, order=order, loader=None)) == _elf.Elf("amd64", None)


def test_the_header_of_a_real_program() -> None:
    found = _elf.parse(Path("/bin/sh").read_bytes())
    assert found and found.loader and Path(found.loader).exists()


def test_what_a_processor_runs() -> None:
    assert _elf.Elf("386", None).runs_on("amd64") and _elf.Elf("arm", None).runs_on("arm64")
    assert not _elf.Elf("amd64", None).runs_on("386") and not _elf.Elf("machine 9", None).runs_on("amd64")


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    _elf.parse(b"\x7fELF" + data)
    _elf.parse(elf()[: len(data)] + data)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1)\n", None),
        (
            "x: error while loading shared libraries: libq.so.1: cannot open shared object file: No such file",
            "libq.so.1",
        ),
        ("x: error while loading shared libraries: x: cannot open shared object file: Permission denied", None),
        ("\tlibssl.so.1.1 => not found\n", "libssl.so.1.1"),
        (
            "x: /lib/libc.so.6: version `GLIBC_2.38' not found (required by x)",
            "GLIBC_2.38, which the image's libc.so.6",
        ),
        ("x: /lib/libfoo.so: no version information available (required by x)", None),
        ("Error loading shared library libfoo.so: No such file or directory (needed by /x)", "libfoo.so"),
        ("Error relocating /x: __fprintf_chk: symbol not found", "__fprintf_chk"),
    ],
)
def test_what_a_loader_prints(output: str, reason: str | None) -> None:
    found = _program._of_loader(output)
    assert (reason in (found or "")) if reason else found is None


@pytest.mark.parametrize(
    ("argument", "program"),
    [
        ("python3", ["python3"]),
        ("-S python3 -u", ["python3", "-u"]),
        ("-vS python3", ["python3"]),
        ("--split-string=python3 -u", ["python3", "-u"]),
        ("-S A=1 -u HOME node --x", ["node", "--x"]),
        ("-S 'python 3' x", ["python 3", "x"]),
        ("-i", None),
        ("A=1", None),
        ("-S 'unclosed", None),
        ("-S A=1", None),
    ],
)
def test_what_env_starts(argument: str, program: list[str] | None) -> None:
    assert _program._of_env(argument) == program


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"#!/bin/sh\nx", ["/bin/sh"]),
        (b"#! \t/bin/sh  -e -u \n", ["/bin/sh", "-e -u"]),
        (b"#!/usr/bin/env python3", ["/usr/bin/env", "python3"]),
        (b"#!\n", []),
        (b"#!   \n", []),
    ],
)
def test_a_first_line(head: bytes, words: list[str]) -> None:
    assert _program._words(head) == words


PIP = b"""#!/usr/bin/python3
import re
import sys
from pkg.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def test_entry_points() -> None:
    match = _program.CONSOLE.search(PIP)
    assert match and (match[1], match[2]) == (b"pkg.cli", b"main")
    assert _program.CONSOLE.search(b"#!/usr/bin/python3\nfrom pkg import main\nmain()\n") is None
    wrapped = _program.EXEC.match(b"#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''\n")
    assert wrapped and wrapped[1] == b"/a b/python"
