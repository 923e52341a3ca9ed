"""Can a program be started, and if not, why? Shared by checks; declares none.

Nothing is started but the image's own dynamic loader, which is asked what the program would load.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from taskgate.checks import _elf
from taskgate.harness.sandbox.sandbox import Sandbox

# Status 0: the path, or the name of a function or builtin; 1: nothing of that name; 3: a path where PATH has something
# of that name that is no program.
FIND = """
p=$(command -v -- "$1" 2>/dev/null) && {
  case $p in */*) ;; *) printf '%s\\n' "$p"; exit 0 ;; esac
  case $p in /*) ;; *) p=$PWD/$p ;; esac
  [ -f "$p" ] && [ -x "$p" ] && { printf '%s\\n' "$p"; exit 0; }
}
case $1 in /*) set -- "$1" "" ;; */*) set -- "$PWD/$1" "" ;; *) set -- "$1" "$PATH:" ;; esac
[ -n "$2" ] || { [ -e "$1" ] || [ -h "$1" ] || exit 1; printf '%s\\n' "$1"; exit 3; }
rest=$2
while [ -n "$rest" ]; do
  d=${rest%%:*} rest=${rest#*:}
  f=${d:-.}/$1
  if [ -e "$f" ] || [ -h "$f" ]; then printf '%s\\n' "$f"; exit 3; fi
done
exit 1
"""
# Where a path is, seen by the agent's user. The directory that can't be entered comes last.
SEEN = """
if [ -d "$1" ]; then echo directory
elif [ -e "$1" ]; then
  [ -x "$1" ] || { echo noexec; exit; }
  [ -r "$1" ] && echo fine || echo unreadable
else
  rest=${1#/} d=
  while [ -n "$rest" ]; do
    case $rest in */*) ;; *) break ;; esac
    d=$d/${rest%%/*} rest=${rest#*/}
    [ -x "$d" ] || { echo "closed $d"; exit; }
  done
  echo missing
fi
"""
HEAD_BYTES = 1 << 16
# A header that patchelf moved to the file's end.
WHOLE_BYTES = 256 << 20
# The kernel reads no more of a first line, and follows no more interpreters.
LINE_BYTES, DEPTH = 255, 5
LIBRARY = re.compile(
    r"error while loading shared libraries: (?P<glibc>\S+): cannot open shared object file: No such file"
    r"|(?P<trace>\S+) => not found|Error loading shared library (?P<musl>[^:\s]+):"
)
VERSION = re.compile(r"(?P<library>\S+): version `(?P<version>[^']{1,100})' not found")
SYMBOL = re.compile(r"Error relocating (?P<file>\S+): (?P<symbol>\S+): symbol not found")
# What uv and pip write where a path is too long for a first line.
EXEC = re.compile(rb"\A#![^\n]*/sh\n'''exec' [\"']?(/[^\"'\n]+?)[\"']? \"\$0\"")
# What pip, uv and setuptools make of an entry point.
CONSOLE = re.compile(
    rb"^from ([A-Za-z_][\w.]*) import ([A-Za-z_]\w*)\s*$(?s:.*)^\s+(?:sys\.exit|raise SystemExit)\(", re.M
)
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """`path`: what the agent would start, None where there is nothing. `trouble` says why that fails, as a sentence's
    end: `is missing`. A function or builtin of the task's shell has a name for a path."""

    path: str | None
    trouble: str | None = None


def find(sandbox: Sandbox, name: str, where: str | None = None) -> Found:
    """What the agent starts by `name`, looked for as it would be: on the agent's PATH, by the task's shell."""
    known: dict[tuple[str, str | None], Found] = sandbox.facts.setdefault("programs", {})
    if (name, where) not in known:
        known[name, where] = _find(sandbox, name, where)
    return known[name, where]


def _find(sandbox: Sandbox, name: str, where: str | None) -> Found:
    result = sandbox.as_agent(FIND, name, where=where)
    path = result.lines[-1] if result.lines and result.code in (0, 3) else None
    if result.code == 0 and path:
        return Found(path)
    if path:
        return Found(path, _unusable(sandbox, path) or "can't be started")
    if hidden := _hidden(sandbox, name):
        return hidden
    return Found(None, "is not there" if "/" in name else "is not on PATH")


def trouble(sandbox: Sandbox, name: str, where: str | None = None) -> str | None:
    """Why the agent can't start the program `name`; None where nothing speaks against it."""
    program = find(sandbox, name, where)
    if program.trouble:
        shown = f"{program.path}: it " if program.path and program.path != name else ""
        return f"{shown}{program.trouble}"
    if program.path is None or "/" not in program.path:
        return None
    reason = of_file(sandbox, program.path)
    return f"{program.path}: it {reason}" if reason and program.path != name else reason


def of_file(sandbox: Sandbox, path: str, depth: int = 0) -> str | None:
    """Why the program at `path` can't be started, as a sentence's end; None where nothing speaks against it."""
    if reason := _unusable(sandbox, path):
        return reason
    head = sandbox.head(path, HEAD_BYTES)
    if head.startswith(_elf.MAGIC):
        return _of_elf(sandbox, path, head)
    if head.startswith(b"#!"):
        return _of_script(sandbox, path, head, depth)
    if sandbox.task.shell or depth:
        # A shell runs what the kernel refuses.
        return None
    if head.startswith(b"\xef\xbb\xbf#!"):
        return "begins with a byte order mark, so the kernel does not see its first line (#!)"
    return "is empty" if not head else "has no first line that names its interpreter (#!), so the kernel can't start it"


def interpreter(sandbox: Sandbox, path: str) -> list[str] | None:
    """The argv of the interpreter that the script at `path` names, `env` followed; None where it is no script."""
    head = sandbox.head(path, HEAD_BYTES)
    if wrapped := EXEC.match(head):
        return [wrapped[1].decode("utf-8", "replace")]
    if not head.startswith(b"#!"):
        return None
    words = _words(head)
    if words and words[0].rpartition("/")[2] == "env" and len(words) > 1:
        return _of_env(words[1])
    return [words[0], *words[1:]] if words else None


def console_script(sandbox: Sandbox, path: str) -> tuple[list[str], str, str] | None:
    """The interpreter of an entry point's script, the module that it imports, and the name in it."""
    match = CONSOLE.search(sandbox.head(path, HEAD_BYTES))
    argv = interpreter(sandbox, path) if match else None
    if match is None or not argv or "python" not in argv[0].rpartition("/")[2]:
        return None
    return argv, match[1].decode(), match[2].decode()


def _unusable(sandbox: Sandbox, path: str) -> str | None:
    """Is there a program at `path` that the agent's user may start?"""
    seen = (sandbox.sh(SEEN, path).lines or ["missing"])[-1]
    if seen in ("fine", "unreadable"):
        # A program need not be readable, a script must.
        script = seen == "unreadable" and sandbox.head(path, 2) == b"#!"
        return "can't be read by the agent's user" if script else None
    target = sandbox.target(path)
    link = f"is a link to {target}, which " if target and target != path else ""
    if seen == "directory":
        return f"{link}is a directory"
    if seen == "noexec":
        return f"{link}is not executable for the agent's user"
    if target:
        closed = (sandbox.sh(SEEN, target).lines or [""])[-1].removeprefix("closed ")
        return f"{link}lies below {closed}, which the agent's user can't enter"
    return _dangling(sandbox, path)


def _dangling(sandbox: Sandbox, path: str) -> str:
    """Nothing is at a path's end: is something on the way?"""
    link = sandbox.sh('[ -h "$1" ] && { readlink "$1" 2>/dev/null || ls -ld "$1"; }', path)
    if link.code:
        return "is missing"
    place = link.lines[-1].rpartition(" -> ")[2] if link.lines else "somewhere"
    return f"is a link to {place}, which is missing"


def _hidden(sandbox: Sandbox, name: str) -> Found | None:
    """A program in a directory of PATH that the agent's user can't enter."""
    places = [name] if "/" in name else _path(sandbox, name)
    for place in places:
        if place.startswith("/") and (target := sandbox.target(place)):
            closed = (sandbox.sh(SEEN, target).lines or [""])[-1]
            if closed.startswith("closed "):
                return Found(place, f"lies below {closed.removeprefix('closed ')}, which the agent's user can't enter")
    return None


def _path(sandbox: Sandbox, name: str) -> list[str]:
    path = sandbox.as_agent('printf %s "$PATH"', where="/").out
    # An image may name as many directories as it likes.
    return [f"{folder}/{name}" for folder in path.split(":")[:30] if folder.startswith("/")]


def _of_elf(sandbox: Sandbox, path: str, head: bytes) -> str | None:
    elf = _elf.parse(head) or _elf.parse(sandbox.head(path, WHOLE_BYTES))
    if elf is None:
        return "is a damaged ELF file"
    architecture = sandbox.image.platform.split("/")[1]
    if not elf.runs_on(architecture):
        return f"is a program for {elf.machine}, and the image is for {architecture}"
    if elf.loader is None:
        return None
    if reason := _unusable(sandbox, elf.loader):
        return f"needs the dynamic loader {elf.loader}, which {reason}{_c_library(elf.loader)}"
    listed = sandbox.as_agent('"$1" --list "$2" 2>&1', elf.loader, path, where="/")
    return _of_loader(listed.out)


def _c_library(loader: str) -> str:
    kind = "musl (Alpine)" if "musl" in loader else "glibc (Debian, Ubuntu, Fedora)" if "ld-linux" in loader else ""
    return f": the program was built for {kind}" if kind else ""


def _of_loader(output: str) -> str | None:
    """What a dynamic loader says that it misses."""
    if missing := LIBRARY.search(output):
        return f"needs the library {next(name for name in missing.groups() if name)}, which is missing"
    if version := VERSION.search(output):
        library = version["library"].rpartition("/")[2]
        return f"needs {version['version']}, which the image's {library} does not have: it was built on a newer system"
    if symbol := SYMBOL.search(output):
        return f"needs the symbol {symbol['symbol']}, which no library of the image has"
    return None


def _of_script(sandbox: Sandbox, path: str, head: bytes, depth: int) -> str | None:
    line = head[2:].split(b"\n", 1)[0]
    if line.endswith(b"\r"):
        return "has Windows line endings: its interpreter is looked for by a name that ends in a carriage return"
    if b"\n" not in head[: LINE_BYTES + 1] and len(head) > LINE_BYTES:
        return f"has a first line of more than {LINE_BYTES} bytes, which the kernel cuts"
    words = _words(head)
    if not words:
        return "names no interpreter in its first line (#!)"
    if depth >= DEPTH:
        return "has an interpreter that is a script, and so on: the kernel follows no more than five"
    if reason := of_file(sandbox, words[0], depth + 1):
        return f"names the interpreter {words[0]}, which {reason}"
    target = _of_env(words[1]) if words[0].rpartition("/")[2] == "env" and len(words) > 1 else None
    if target and (reason := _of_env_target(sandbox, words[1], target[0], depth)):
        return reason
    if (wrapped := EXEC.match(head)) and (reason := of_file(sandbox, wrapped[1].decode("utf-8", "replace"), depth + 1)):
        return f"starts {wrapped[1].decode('utf-8', 'replace')}, which {reason}"
    return None


def _of_env_target(sandbox: Sandbox, argument: str, name: str, depth: int) -> str | None:
    program = find(sandbox, name)
    if program.path is None and " " in argument and not argument.startswith("-"):
        return f"passes {argument!r} to env as one name, as the kernel does not split it: write `env -S {argument}`"
    reason = program.trouble
    if reason is None and program.path and "/" in program.path:
        reason = of_file(sandbox, program.path, depth + 1)
    return f"names the interpreter {name} (by env), which {reason}" if reason else None


def _words(head: bytes) -> list[str]:
    """An interpreter and its one argument, as the kernel splits a first line."""
    line = head[2:].split(b"\n", 1)[0][:LINE_BYTES].decode("utf-8", "replace").strip(" \t")
    interpreter, _, argument = re.sub(r"[ \t]+", " ", line, count=1).partition(" ")
    return [word for word in (interpreter, argument.strip()) if word]


def _of_env(argument: str) -> list[str] | None:
    """What `env ARGUMENT` starts."""
    if not re.match(r"-\w*S|--split-string", argument):
        return [argument] if not argument.startswith("-") and not ASSIGNMENT.match(argument) else None
    try:
        words = shlex.split(re.sub(r"^(?:-\w*S|--split-string[= ])", "", argument))
    except ValueError:
        return None
    return _first_program(words)


def _first_program(words: Sequence[str]) -> list[str] | None:
    at = 0
    while at < len(words) and (words[at].startswith("-") or ASSIGNMENT.match(words[at])):
        at += 2 if words[at] in ("-u", "-C", "--unset", "--chdir") else 1
    return list(words[at:]) or None
