"""An mkdocs hook: the pages that are generated from the code, so that they can't disagree with it.

`checks.md` comes from the checks' docstrings, `manifest.md` from the JSON Schema, `options.md` from the parsers.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent
PAGES = {"checks.md": "checks", "manifest.md": "manifest", "options.md": "options"}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (mkdocs' own event)."""
    from mkdocs.structure.files import File

    for name, function in PAGES.items():
        files.append(File.generated(config, name, content=globals()[function]()))
    return files


def checks() -> str:
    """The packaged checks in the order in which they run: what must hold, how to fix it."""
    from taskgate.checks import _registry

    lines = [
        "# Checks",
        "",
        "Every check runs as the agent's user, with the network, environment and limits of the real run.",
        "An image's ENTRYPOINT, CMD and HEALTHCHECK are never run. Where a check fails, those that need it don't run.",
        "",
        "In the manifest, `checks: {NAME: fail|warn|off}` sets a check's level: `fail` turns its warnings into",
        "failures, `warn` turns its failures into warnings, `off` skips it. [Write your own](extending.md#a-check).",
        "",
    ]
    for check in _registry.load():
        lines += [f"## {check.name}", "", check.about, ""]
        if check.hint:
            lines += [f"**How to fix it:** {check.hint}", ""]
        if check.after:
            lines += [f"Runs after {', '.join(f'[{name}](#{name})' for name in check.after)}.", ""]
    return "\n".join(lines)


def manifest() -> str:
    """The manifest's fields, from the JSON Schema."""
    schema = json.loads((CLONE / "harness/tasks/manifest.schema.json").read_text())
    intro = (CLONE / "docs/manifest.intro.md").read_text()
    rows = ["## Fields", "", "| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    rows += dict.fromkeys(_fields(schema, schema, ""))
    return intro + "\n" + "\n".join(rows) + "\n"


def _fields(schema: dict[str, Any], node: dict[str, Any], where: str, depth: int = 0) -> Iterator[str]:
    for name, about in node.get("properties", {}).items():
        about = _resolved(schema, about)
        path = f"{where}{name}"
        default = f"`{json.dumps(about['default'])}`" if "default" in about else ""
        meaning = " ".join(str(about.get("description", "")).split()).replace("|", "\\|")
        yield f"| `{path}` | {_type(schema, about)} | {default} | {meaning} |"
        if depth < 4:
            for inner in _alternatives(schema, about):
                if inner.get("type") == "array":
                    for item in _alternatives(schema, inner.get("items", {})):
                        yield from _fields(schema, item, f"{path}[].", depth + 1)
                elif path != "defaults":
                    yield from _fields(schema, inner, f"{path}.", depth + 1)


def _alternatives(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    node = _resolved(schema, node)
    choices = node.get("anyOf") or node.get("oneOf") or [node]
    return [_resolved(schema, choice) for choice in choices]


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    merged = dict(node)
    for part in [*node.get("allOf", [])]:
        merged = {**_resolved(schema, part), **merged}
    if "$ref" in node:
        target: Any = schema
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        merged = {**_resolved(schema, target), **{k: v for k, v in node.items() if k != "$ref"}}
    return merged


def _type(schema: dict[str, Any], node: dict[str, Any]) -> str:
    names = []
    for choice in _alternatives(schema, node):
        if "enum" in choice:
            names.append(" ".join(f"`{value}`" for value in choice["enum"]))
        elif "const" in choice:
            names.append(f"`{choice['const']}`")
        elif choice.get("type") == "array":
            names.append(f"list of {_type(schema, choice.get('items', {})) or 'values'}")
        elif isinstance(choice.get("type"), list):
            names += choice["type"]
        elif "type" in choice:
            names.append({"object": "mapping", "string": "text"}.get(choice["type"], choice["type"]))
    return " or ".join(dict.fromkeys(names))


def options() -> str:
    """Every option of pytest with --images and of each `taskgate` command."""
    import pytest

    from taskgate.harness.cli import main
    from taskgate.harness.plugin import options as plugin_options

    parser = pytest.Parser(_ispytest=True)
    plugin_options.add(parser)
    lines = ["# Commands and options", "", "## pytest --images", "", *_head()]
    for option in parser.getgroup("taskgate").options:
        attributes = option.attrs()
        lines.append(_row(option.names(), attributes.get("metavar"), attributes.get("help"), attributes.get("default")))
    lines += ["", "See [the verdicts](index.md#verdicts).", ""]
    for name, inner in _commands(main.parser()):
        lines += [f"## taskgate {name}", "", f"{(inner.description or '').strip()}", "", *_head()]
        for action in inner._actions:
            if "--help" in action.option_strings or isinstance(action, argparse._SubParsersAction):
                continue
            names = action.option_strings or [str(action.metavar or action.dest)]
            metavar = action.metavar if action.option_strings and action.nargs != 0 else None
            lines.append(_row(names, metavar, action.help, action.default))
        lines.append("")
    return "\n".join(lines)


def _head() -> list[str]:
    return ["| option | meaning | default |", "| --- | --- | --- |"]


def _row(names: Sequence[str], metavar: Any, meaning: str | None, default: Any) -> str:
    shown = ", ".join(f"`{name}={metavar}`" if metavar and name.startswith("--") else f"`{name}`" for name in names)
    plain = default in (None, False, True, []) or default is argparse.SUPPRESS
    # The default has a column of its own.
    text = re.sub(r" \(default: [^()]*\)", "", " ".join((meaning or "").replace("%%", "%").split()))
    cells = (shown.replace("|", "\\|"), text.replace("|", "\\|"), "" if plain else f"`{default}`")
    return f"| {' | '.join(cells)} |"


def _commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for name, inner in action.choices.items():
                inner.description = inner.description or helps.get(name)
                if not any(isinstance(one, argparse._SubParsersAction) for one in inner._actions):
                    yield f"{before}{name}", inner
                yield from _commands(inner, f"{before}{name} ")


if __name__ == "__main__":
    sys.stdout.write(globals()[PAGES[sys.argv[1]]]())
