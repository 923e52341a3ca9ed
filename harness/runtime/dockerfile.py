"""Mode `build`: a Dockerfile that anybody can read and use, and the image that it makes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from taskgate.harness.base.errors import BundleError, InfraError, NoSpace
from taskgate.harness.engine import classification
from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.runtime.injected import LABEL, build_lock, existing, history_of, labels_of, tag_of

BUILD_SECONDS = 1800
ONBUILD = re.compile(r"(?:/bin/sh -c #\(nop\)\s*)?ONBUILD\b")


def text(bundle: Bundle, base: str) -> str:
    """The Dockerfile. `base` is an image's id or name; everything is quoted.

    Two stages: the bundle's tar is unpacked in the first, so that the second is a plain COPY and one layer.
    """
    labels = " ".join(f"{json.dumps(k)}={json.dumps(v)}" for k, v in labels_of(bundle, base).items())
    stage = f"{json.dumps(LABEL)}={json.dumps(bundle.name)}"
    return (
        # Labelled too, so that what the first stage leaves behind is found when it is pruned.
        f"FROM scratch AS runtime\nLABEL {stage}\nADD {json.dumps(['runtime.tar', bundle.prefix + '/'])}\n\n"
        f"FROM {_name(base)}\nCOPY --from=runtime {json.dumps([bundle.prefix, bundle.prefix])}\nLABEL {labels}\n"
    )


def _name(base: str) -> str:
    if not base or any(c.isspace() or c in "\\#$\"'`" or not c.isprintable() for c in base) or base.startswith("-"):
        raise BundleError(f"{base!r} is not an image name")
    return base


def keep(folder: Path, bundle: Bundle, base: str) -> Path:
    """Write the Dockerfile into `folder` for readers and for other builds. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "Dockerfile"
    path.write_text(f"# Needs the bundle {bundle.name} beside it, as runtime.tar.\n{text(bundle, base)}")
    return path


def build(engine: Engine, bundle: Bundle, store: Store, base: str, tag: str | None = None) -> str:
    """The id of the image `base` with the bundle in it, built unless it exists. Nothing of the image is run.

    Raises BundleError, also for an image with ONBUILD instructions; InfraError.
    """
    tag = tag or tag_of(bundle, base)
    with build_lock(store, tag):
        if known := existing(engine, tag, bundle, base):
            return known
        _refuse_triggers(engine, base)
        output: list[str] = []
        # A build can't begin with a bare id on every engine: a tag of our own names it.
        named = _alias(engine, base)
        try:
            with tempfile.TemporaryFile() as context:
                _context(context, bundle, store, named, base)
                for event in engine.build_image(context, tag, silence=BUILD_SECONDS, network="none"):
                    output.append(str(event.get("stream") or event.get("error") or ""))
                    if "error" in event:
                        log = "".join(output)[-2000:]
                        raise (NoSpace if classification.NO_SPACE.search(log) else BundleError)(
                            f"building {tag}: {log}{advice(log)}"
                        )
        finally:
            _unalias(engine, named, base)
    if known := existing(engine, tag, bundle, base):
        return known
    raise BundleError(f"the build of {tag} left no such image: {''.join(output)[-2000:]}")


def advice(message: str) -> str:
    """What to do about an engine's refusal, as the end of a message."""
    if "max depth exceeded" not in message:
        return ""
    return ": the image has as many layers as the engine allows; `mode: mount` brings the runtime in without one"


def _refuse_triggers(engine: Engine, base: str) -> None:
    """A build would run what the image says with ONBUILD: as root, without limits."""
    config = (engine.inspect(base) or {}).get("Config") or {}
    # Podman shows them in the history only, where a hostile image can leave them out.
    in_history = engine.podman and any(ONBUILD.match(line.get("CreatedBy") or "") for line in history_of(engine, base))
    if config.get("OnBuild") or in_history:
        raise BundleError(f"{base} has ONBUILD instructions, which a build would run: bring the runtime in by a mount")


def _context(file: IO[bytes], bundle: Bundle, store: Store, named: str, base: str) -> None:
    content = text(bundle, base).replace(f"FROM {base}\n", f"FROM {named}\n").encode()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        tar.add(store.tar(bundle), "runtime.tar")
    file.seek(0)


def _alias(engine: Engine, base: str) -> str:
    if not base.startswith("sha256:"):
        return base
    name = f"taskgate/base:{base.removeprefix('sha256:')[:40]}"
    engine.tag(base, name)
    return name


def _unalias(engine: Engine, named: str, base: str) -> None:
    if named != base:
        # Another build from the same base may have removed it already, or still use it.
        with contextlib.suppress(InfraError):
            engine.remove_image(named, prune=False)
