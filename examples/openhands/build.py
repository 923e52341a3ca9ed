"""Builds the image of examples/openhands: Debian trixie with OpenHands' agent-server, and a repository with a bug.

    python examples/openhands/build.py

The packages are installed in a container with this host's network, certificates and pip configuration.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pip
from docker import DockerClient

CLONE = Path(__file__).resolve().parents[2]
if str(CLONE) not in sys.path:
    sys.path.insert(0, str(CLONE))

from examples import images  # noqa: E402

VERSION = "1.58.*"
PACKAGES = [f"openhands-{name}=={VERSION}" for name in ("agent-server", "sdk", "tools")]
SERVER, TASK = "taskgate-demo/openhands-server:1", "taskgate-demo/openhands:1"
PREFIX = "/opt/openhands"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# What pip prints where it reached no registry at all.
UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|Network is unreachable|Connection refused|ProxyError"
)
REPOSITORY = f"""FROM {SERVER}
RUN git config --system user.name demo && git config --system user.email demo@example.invalid \\
 && git init -q -b main /testbed && cd /testbed \\
 && printf 'def add(a, b):\\n    return a - b\\n' >calc.py && git add . && git commit -qm 'Add calc'
"""


class NoRegistry(Exception):
    """No package registry can be reached from here."""


def build(client: DockerClient) -> str:
    """The task's image. Raises NoRegistry; RuntimeError where the packages can't be installed."""
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.get(SERVER)
        return images.build(client, TASK, REPOSITORY)
    with _container(client, images.base(client, "trixie")) as container:
        _run(container, ["python3", "-m", "venv", "--without-pip", PREFIX])
        _run(container, [f"{PREFIX}/bin/python", "-m", "pip", "install", "--no-cache-dir", *PACKAGES])
        container.commit(*SERVER.split(":"))
    return images.build(client, TASK, REPOSITORY)


@contextlib.contextmanager
def _container(client: DockerClient, image: str) -> Iterator[Any]:
    """It sees pip and its configuration at their own places, and none of that reaches what is committed of it."""
    mounts = [f"{Path(pip.__file__).parent}:/host/pip:ro", *(f"{path}:{path}:ro" for path in _configured())]
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or CERTIFICATES
    if Path(certificates).is_file():
        mounts.append(f"{certificates}:{CERTIFICATES}:ro")
    host_config = client.api.create_host_config(network_mode="host", binds=mounts)
    created = client.api.create_container(image, ["sleep", "3600"], host_config=host_config)
    container = client.containers.get(created["Id"])
    try:
        container.start()
        yield container
    finally:
        container.remove(force=True)


def _configured() -> set[Path]:
    """pip's configuration, and the folders on this host that it names."""
    paths = {Path("/etc/pip.conf"), Path("/etc/xdg/pip"), Path.home() / ".config/pip", Path.home() / ".pip"}
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    for text in re.findall(r"(?:file://)?(/[\w./-]+)", listed.stdout):
        path = Path(text)
        # The files lie beside the index.
        paths.add(path.parent if path.name == "simple" else path)
    return {path for path in paths if path.exists() and path != Path(CERTIFICATES) and len(path.parts) > 2}


def _run(container: Any, argv: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    status, output = container.exec_run(
        argv, environment={**environment, "PYTHONPATH": "/host", "PIP_CERT": CERTIFICATES}
    )
    text = output.decode("utf-8", "replace")
    if status and UNREACHABLE.search(text):
        raise NoRegistry(text[-2000:])
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with status {status}:\n{text[-3000:]}")


if __name__ == "__main__":
    print(build(images.connect()))
