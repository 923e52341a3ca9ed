"""Images from scratch, without a registry: a Debian base by mmdebstrap, and variants by the classic builder.

    python examples/images.py       # builds the demo images that examples/manifest.yaml names

The project's own tests build theirs with the same functions.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import docker
import docker.errors
from docker import DockerClient
from filelock import FileLock

from taskgate.harness.engine.discovery import find_engine

BASE = "taskgate-demo/base:1"
PACKAGES = "git,python3"
HASH = "taskgate.example.hash"
TIMEOUT = 600

HERE = Path(__file__).parent

# As in the base of most benchmarks: a repository at /testbed, an agent that imports, a user that isn't root.
SOUND = """
RUN useradd -m -u 1000 dev \\
 && git config --system user.name demo && git config --system user.email demo@example.invalid \\
 && git init -q -b main /testbed && cd /testbed \\
 && export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' \\
 && printf 'def add(a, b):\\n    return a - b\\n' >calc.py && git add . && git commit -qm 'Add calc' \\
 && printf '# calc\\n' >README && git add . && git commit -qm 'Add a README'
COPY agent.py /usr/lib/python3/dist-packages/agent.py
"""

DEMO = {
    "sound": "",
    "odd-entrypoint": 'ENTRYPOINT ["python3", "-m", "http.server"]',
    "odd-user": "RUN chown -R dev /testbed\nUSER dev",
    "odd-tree": "RUN cd /testbed && git checkout -q --detach && git branch -q -D main && echo '# dirty' >>calc.py",
    "no-python": "RUN rm -f /usr/bin/python3*",
    "no-git": "RUN rm -f /usr/bin/git",
    "corrupt-git": "RUN cd /testbed && f=.git/objects/$(git rev-parse HEAD | sed 's,^..,&/,') && chmod u+w $f && : >$f",
    "stale-lock": "RUN touch /testbed/.git/index.lock",
    "read-only-workdir": "USER dev",
    "future-commits": "RUN cd /testbed && git checkout -q --detach HEAD~1",
    "broken-agent": "RUN echo 'import a_module_that_is_missing' >/usr/lib/python3/dist-packages/agent.py",
}


def connect() -> DockerClient:
    """The engine that taskgate itself would use."""
    host = find_engine()
    return docker.DockerClient(base_url=host.url, tls=host.tls or False, timeout=TIMEOUT, version="auto")


def base(client: DockerClient, suite: str | None = None, packages: str = PACKAGES) -> str:
    """A minimal Debian with git and Python, made once an engine; about a quarter of a minute.

    `suite`: its release; None: this host's, or bookworm where that is no Debian. `packages`: others, by commas.
    """
    tag = f"taskgate-demo/{suite}:1" if suite else BASE
    if packages != PACKAGES:
        tag += "-" + hashlib.sha256(packages.encode()).hexdigest()[:8]
    with _lock(tag):
        try:
            client.images.get(tag)
        except docker.errors.ImageNotFound:
            _load(client, tag, _debian(suite, packages), client.version()["Arch"])
    return tag


def _debian(suite: str | None, packages: str) -> bytes:
    if not shutil.which("mmdebstrap"):
        sys.exit("The base image is made by mmdebstrap, which is not installed.\nRun: apt-get install mmdebstrap")
    os_release = platform.freedesktop_os_release()
    here = os_release.get("VERSION_CODENAME", "bookworm") if os_release["ID"] == "debian" else "bookworm"
    suite = suite or here
    command = ["mmdebstrap", "--variant=minbase", f"--include={packages}", suite, "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return done.stdout


def build(client: DockerClient, tag: str, dockerfile: str, files: dict[str, bytes] | None = None) -> str:
    """Build `tag` unless it is there with these very contents. The context is in memory."""
    contents = {"Dockerfile": dockerfile.encode(), **(files or {})}
    from_line = dockerfile.strip().splitlines()[0].removeprefix("FROM ").strip()
    parent = client.images.get(from_line).id if from_line != "scratch" else "scratch"
    text = json.dumps([parent, {name: data.hex() for name, data in contents.items()}], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with _lock(tag):
        try:
            if client.images.get(tag).labels.get(HASH) == digest:
                return tag
        except docker.errors.ImageNotFound:
            pass
        contents["Dockerfile"] = f"{dockerfile}\nLABEL {HASH}={digest}\n".encode()
        client.images.build(
            fileobj=io.BytesIO(archive(contents)), custom_context=True, tag=tag, rm=True, forcerm=True, pull=False
        )
    return tag


def archive(files: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    """A tar of these files, the same bytes for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), (modes or {}).get(name, 0o644)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def load(
    client: DockerClient, tag: str, files: dict[str, bytes], architecture: str, modes: dict[str, int] | None = None
) -> str:
    """An image with exactly these files and this architecture in its configuration."""
    return _load(client, tag, archive(files, modes), architecture)


def _load(client: DockerClient, tag: str, layer: bytes, architecture: str) -> str:
    """An image of one layer through the load API, which Docker and Podman understand alike (import they don't)."""
    client.images.load(many([tag], layer, architecture))
    return tag


def many(tags: list[str], layer: bytes, architecture: str) -> bytes:
    """An archive for the load API: images of the same layer; where there are several, each with a label of its own."""
    files, entries = {"layer.tar": layer}, []
    for tag in tags:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
            "history": [{"created_by": "taskgate example"}],
            "created": "2020-01-01T00:00:00Z",
        }
        if len(tags) > 1:
            config["config"] = {**config["config"], "Labels": {"name": tag}}  # type: ignore[dict-item]
        data = json.dumps(config).encode()
        name = hashlib.sha256(data).hexdigest() + ".json"
        files[name] = data
        entries.append({"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]})
    return archive({"manifest.json": json.dumps(entries).encode(), **files})


def demo(client: DockerClient) -> list[str]:
    """Every image that examples/manifest.yaml names, but for the one that does not exist."""
    agent = (HERE / "agent.py").read_bytes()
    sound = build(client, "taskgate-demo/sound:1", f"FROM {base(client)}\n{SOUND}", {"agent.py": agent})
    made = [sound]
    for name, lines in DEMO.items():
        if lines:
            made.append(build(client, f"taskgate-demo/{name}:1", f"FROM {sound}\n{lines}"))
    foreign = "arm64" if client.version()["Arch"] != "arm64" else "amd64"
    made.append(load(client, "taskgate-demo/other-architecture:1", {"bin/sh": b"\x7fELF"}, foreign, {"bin/sh": 0o755}))
    made.append(load(client, "taskgate-demo/no-shell:1", {"etc/hostname": b"none\n"}, client.version()["Arch"]))
    return made


def _lock(name: str) -> FileLock:
    folder = Path(tempfile.gettempdir()) / f"taskgate-images-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return FileLock(folder / (hashlib.sha256(name.encode()).hexdigest()[:16] + ".lock"))


if __name__ == "__main__":
    made = demo(connect())
    print(f"{len(made)} demo images are there")
