"""How a check is declared and found.

A check is a generator function that takes a sandbox and yields a reason for each thing it finds wrong:
a string is a failure, `Warn` and `Skip` are what they say. Yielding nothing is passing. The docstring's first
paragraph says what must hold, the second how to fix it if it doesn't.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskgate.harness.sandbox.sandbox import Sandbox


# Both the package of the checks and the entry point group of further ones.
PACKAGE = "taskgate.checks"


class Warn(str):
    """Worth knowing, but no failure (unless the manifest says `fail`)."""

    __slots__ = ()


class Skip(str):
    """The check does not apply here; nothing was found out."""

    __slots__ = ()


Body = Callable[["Sandbox"], Iterator[str]]


@dataclass(frozen=True)
class Check:
    """A declared check. `after` names the checks that must have passed before it makes sense. `published`: what the
    registry says of an image is enough for it, the image need not be pulled. `advisory`: what it finds is worth a
    warning, and so is that it can't tell."""

    name: str
    body: Body
    after: tuple[str, ...]
    published: bool = False
    advisory: bool = False

    @cached_property
    def about(self) -> str:
        """What must hold, in one sentence."""
        return self._paragraphs[0] if self._paragraphs else self.name

    @cached_property
    def hint(self) -> str | None:
        """How to fix what it finds."""
        return self._paragraphs[1] if len(self._paragraphs) > 1 else None

    @cached_property
    def version(self) -> str:
        """Changes whenever its file does, or one beside it that it uses: cached verdicts of old ones are void."""
        source = inspect.getsourcefile(self.body)
        if source is None:
            return hashlib.sha256(self.body.__code__.co_code).hexdigest()[:12]
        files = {Path(source)}
        todo = list(self.body.__globals__.values())
        while todo:
            module = _module_of(todo.pop())
            name = getattr(module, "__file__", None)
            file = Path(name) if module and name else None
            # What a helper uses counts as well.
            if module and file and file.parent == Path(source).parent and file not in files:
                files.add(file)
                todo += vars(module).values()
        return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]

    @cached_property
    def _paragraphs(self) -> list[str]:
        text = inspect.cleandoc(self.body.__doc__ or "")
        return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _module_of(value: object) -> ModuleType | None:
    """A module, or that in which a thing is defined; None for anything else."""
    if isinstance(value, ModuleType):
        return value
    name = getattr(value, "__module__", None)
    return sys.modules.get(name) if isinstance(name, str) else None


_declared: dict[str, Check] = {}


def packaged() -> frozenset[str]:
    """The names of the checks that taskgate itself brings: a run of all of them is a full one."""
    _import_packaged()
    return frozenset(name for name, check in _declared.items() if check.body.__module__.startswith(f"{PACKAGE}."))


def declared(name: str) -> Check | None:
    """The check of this name, whether or not it was chosen; None if it is not loaded."""
    return _declared.get(name)


def check(
    *, after: str | tuple[str, ...] = (), published: bool = False, advisory: bool = False
) -> Callable[[Body], Body]:
    """Declare a check. Its name is the function's; `after` names the checks it builds on."""

    def declare(body: Body) -> Body:
        known = _declared.get(body.__name__)
        if known and inspect.getsourcefile(known.body) != inspect.getsourcefile(body):
            raise ValueError(f"there are two checks named {body.__name__}")
        names = (after,) if isinstance(after, str) else tuple(after)
        _declared[body.__name__] = Check(body.__name__, body, names, published, advisory)
        return body

    return declare


def load(folders: tuple[Path, ...] = ()) -> list[Check]:
    """All checks in an order in which each comes after those it builds on.

    They are the packaged ones, installed ones (entry point group `taskgate.checks`), and those in `folders`.
    Raises ValueError for an unknown `after`, a circle, or two checks of one name.
    """
    _import_packaged()
    for point in entry_points(group=PACKAGE):
        point.load()
    for folder in folders:
        for file in sorted(folder.glob("*.py")):
            _import(file)
    return _ordered(_declared)


def _import_packaged() -> None:
    package = importlib.import_module(PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{PACKAGE}.{module.name}")


def _import(file: Path) -> ModuleType:
    name = f"taskgate_checks_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} can't be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def chosen(checks: list[Check], names: list[str]) -> list[Check]:
    """The checks of these names and all that they build on. Raises KeyError for an unknown name."""
    by_name = {check.name: check for check in checks}
    wanted: set[str] = set()

    def want(name: str) -> None:
        if name not in wanted:
            wanted.add(name)
            for earlier in by_name[name].after:
                want(earlier)

    for name in names:
        want(name)
    return [check for check in checks if check.name in wanted]


# The order in which a reader would look for the cause; checks of others come after them.
ORDER = [
    "image_exists",
    "platform",
    "container_start",
    "network",
    "user",
    "shell",
    "workdir",
    "tmp",
    "home",
    "disk",
    "environment",
    "services",
    "healthcheck",
    "git_available",
    "git_repo",
    "git_commit",
    "git_future",
    "python_available",
    "agent_start",
    "required",
]


def _ordered(declared: dict[str, Check]) -> list[Check]:
    rank = {name: number for number, name in enumerate(ORDER)}
    done: dict[str, Check] = {}
    path: list[str] = []

    def place(name: str) -> None:
        if name in done:
            return
        if name in path:
            raise ValueError(f"checks wait for each other in a circle: {' -> '.join([*path, name])}")
        path.append(name)
        for earlier in declared[name].after:
            if earlier not in declared:
                raise ValueError(f"the check {name} comes after {earlier}, which does not exist")
            place(earlier)
        path.pop()
        done[name] = declared[name]

    for name in sorted(declared, key=lambda name: (rank.get(name, len(rank)), name)):
        place(name)
    return list(done.values())
