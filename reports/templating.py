"""HTML from the templates in this folder. Everything that is put in is escaped, control characters included."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from taskgate.harness.base import escape


def asset(name: str) -> str:
    """The text of a file of this package."""
    return resources.files("taskgate.reports").joinpath(name).read_text("utf-8")


def render(name: str, **values: Any) -> str:
    """The template `name` with these values."""
    return _environment.get_template(name).render(**values)


def trusted(text: str) -> Markup:
    """Text of our own that is HTML already."""
    return Markup(text)  # noqa: S704 # never of an image's, a registry's or a manifest's


def _visible(value: Any) -> Any:
    """Markup is ours; any other text may be an image's."""
    return escape.visible(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


_environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(lambda name: asset(f"templates/{name}")),
    autoescape=True,
    finalize=_visible,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=False,
)
