"""A connection to one engine, and the engine's own properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskgate.harness.base.errors import EngineUnavailable, InfraError
from taskgate.harness.base.redaction import redacted
from taskgate.harness.engine import classification, last_answer
from taskgate.harness.engine.discovery import find_engine
from taskgate.harness.engine.platforms import is_podman, platform
from taskgate.harness.engine.sdk import SdkClient

CALL_SECONDS = 60
# An engine that has not answered lately is not waited for: its address is wrong, or it is not started. One that
# answered a moment ago may be restarting.
NEVER_SEEN_SECONDS = 0.0


class Connection:
    """`url` None: the engine that is found (see `discovery`). `platform` is the engine's own, `linux/amd64`.

    `api` is the docker SDK's low-level client, for this folder only.
    """

    def __init__(self, url: str | None = None) -> None:
        """Connect. Raises EngineUnavailable, EngineTimeout, and UsageError for an invalid address."""
        try:
            host = find_engine(url)
            self.url = host.url
            last_answer.check_reachable(host.url)
            with classification.translated(f"connecting to {redacted(host.url)}"):
                self.api: Any = SdkClient(
                    base_url=host.url,
                    version="auto",
                    timeout=CALL_SECONDS,
                    tls=host.tls or False,
                    max_pool_size=4,
                )
                version = self.api.version()
        except EngineUnavailable as error:
            url = getattr(self, "url", None)
            if not last_answer.is_recent(url):
                # Without a URL, no socket was there to try.
                if url and error.patience is None:
                    last_answer.note_unreachable(url, error)
                error.patience = NEVER_SEEN_SECONDS
            raise
        last_answer.note(self.url)
        self.podman = is_podman(version)
        self.platform = platform(version.get("Os"), version.get("Arch"))

    def close(self) -> None:
        self.api.close()

    def alive(self) -> bool:
        """Does the engine answer?"""
        try:
            with classification.translated("ping"):
                return bool(self.api.ping())
        except InfraError:
            return False

    def data_folder(self) -> Path | None:
        """The folder of the engine's images; None if it is not on this host. Raises InfraError."""
        with classification.translated("asking for the engine's disk"):
            folder = Path(str(self.api.info().get("DockerRootDir") or ""))
        return folder if self.url.startswith("unix:") and folder.is_dir() else None
