"""The scripts of this folder as programs for a Python that has nothing of taskgate installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

PACKAGE = "taskgate.harness.sandbox.isolation"
# What each imports from this folder, in the order in which it is loaded.
_MODULES: dict[str, Sequence[str]] = {"relay.py": ("sockets", "http1"), "forwarder.py": ("sockets",)}
# A script's imports read the same there as on the host, where type checkers and tests follow them.
_LOADER = """import sys, types
def load(name, source, package):
    module = types.ModuleType(name)
    if package:
        module.__path__ = []
    sys.modules[name] = module
    above, _, last = name.rpartition(".")
    if above:
        setattr(sys.modules[above], last, module)
    exec(compile(source, name, "exec"), module.__dict__)
for name in {packages!r}:
    load(name, "", True)
for name, source in {modules!r}.items():
    load(name, source, False)
exec(compile({script!r}, {name!r}, "exec"), {{"__name__": "__main__"}})
"""


def program(name: str) -> str:
    """What `python -c` runs for the script `name` (a file of this folder)."""
    script = _text(name)
    if name not in _MODULES:
        return script
    parts = PACKAGE.split(".")
    packages = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    modules = {f"{PACKAGE}.{module}": _text(f"{module}.py") for module in _MODULES[name]}
    return _LOADER.format(packages=packages, modules=modules, script=script, name=name)


def _text(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text("utf-8")
