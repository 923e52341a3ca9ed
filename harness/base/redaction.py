"""URLs as they may be shown and written down: a database, an engine or an endpoint may have a password in its own."""

from __future__ import annotations

import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?!/)")
_SECRET = re.compile(r"([?&][^=&]*(?:pass|pwd|secret|token|api.?key)[^=&]*=)[^&]*", re.IGNORECASE)
# A name alone may be a token there.
_TOKENS = ("http", "https", "tcp")


def masked(text: str) -> str:
    """`text` with `***` for what is secret in the first URL in it. Rather too much than too little: a password may hold
    what should be percent-encoded."""
    found = _URL.search(text)
    if found:
        user, at, rest = text[found.end() :].rpartition("@")
        if at:
            name, colon, _ = user.partition(":")
            hidden = "***" if found[1].lower() in _TOKENS else f"{name}:***" if colon else name
            text = f"{text[: found.end()]}{hidden}@{rest}"
    return _SECRET.sub(r"\1***", text)
