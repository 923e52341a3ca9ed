"""What an ELF file's header says; declares no check."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\x7fELF"
# Machine numbers of the ELF specification, as platforms name them.
MACHINES = {
    3: "386", 8: "mips", 20: "ppc", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64",
    258: "loong64",
}  # fmt: skip
# What a processor runs beside its own.
ALSO_RUNS = {"amd64": ("386",), "arm64": ("arm",)}
PT_INTERP = 3


@dataclass(frozen=True, slots=True)
class Elf:
    """`machine` is an architecture as platforms name it, `loader` the path of its dynamic loader, None where it needs
    none."""

    machine: str
    loader: str | None

    def runs_on(self, architecture: str) -> bool:
        return self.machine == architecture or self.machine in ALSO_RUNS.get(architecture, ())


def parse(data: bytes) -> Elf | None:
    """The beginning of a file, read as ELF; None where it is none or is cut short."""
    try:
        return _parse(data)
    except (struct.error, UnicodeDecodeError):
        return None


def _parse(data: bytes) -> Elf | None:
    if len(data) < 64 or not data.startswith(MAGIC) or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", data, 18)
    (table,) = struct.unpack_from(f"{order}Q", data, 32) if wide else struct.unpack_from(f"{order}I", data, 28)
    size, count = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
    loader = None
    for number in range(min(count, 128)):
        at = table + number * size
        (kind,) = struct.unpack_from(f"{order}I", data, at)
        if kind != PT_INTERP:
            continue
        if wide:
            offset, length = (struct.unpack_from(f"{order}Q", data, at + place)[0] for place in (8, 32))
        else:
            offset, length = (struct.unpack_from(f"{order}I", data, at + place)[0] for place in (4, 16))
        text = data[offset : offset + min(length, 4096)]
        if len(text) < min(length, 4096):
            return None
        loader = text.rstrip(b"\0").decode()
    return Elf(MACHINES.get(machine, f"machine {machine}"), loader)
