"""Engines of the tests' own: a second dockerd, or Podman's API service, that a test may stop and start."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker


class Daemon:
    """A daemon that serves Docker's API on a socket in `folder`."""

    def __init__(self, folder: Path, command: list[str], env: dict[str, str] | None = None) -> None:
        self.folder, self._command, self._env = folder, command, {**os.environ, **(env or {})}
        self.url = f"unix://{folder}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # What a killed one left: the number of a containerd that is a zombie looks alive to the next one.
        for stale in ("engine.sock", "exec/containerd/containerd.pid"):
            (self.folder / stale).unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        for _ in range(300):
            try:
                client = docker.APIClient(base_url=self.url, version="auto", timeout=5)
                client.ping()
                client.close()
                return
            except (docker.errors.DockerException, OSError):
                time.sleep(0.1)
        raise AssertionError(f"{self._command[0]} does not answer:\n" + (self.folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """At once, as a crash would."""
        assert self._process is not None
        # Its containerd too, which would hold the new one's socket.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def dockerd(*options: str, size: str | None = None) -> Iterator[Daemon]:
    """A dockerd with data of its own, without networks unless `options` say otherwise. `size`: its disk has so much."""
    program = shutil.which("dockerd")
    assert program, "dockerd is missing: apt-get install docker.io"
    with _folder() as folder:
        if size:
            (folder / "data").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder / "data"], check=True)
        # In a network namespace of its own: with --bridge=none it would remove the bridge of the host's dockerd.
        command = [
            "unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", program,
            "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid",
            "--host", f"unix://{folder}/engine.sock", "--iptables=false", "--ip6tables=false",
            *(options or ["--bridge=none"]),
        ]  # fmt: skip
        daemon = Daemon(folder, command)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


@contextmanager
def podman(*, insecure: str | None = None) -> Iterator[Daemon]:
    """Podman's API service, with storage of its own; `insecure` is a registry (HOST:PORT) that speaks plain HTTP."""
    program = shutil.which("podman")
    assert program, "podman is missing: apt-get install podman crun"
    with _folder() as folder:
        # Its own defaults may be more than this host lets anybody have.
        files, processes = (
            min(4096, hard) if (hard := resource.getrlimit(which)[1]) > 0 else 4096
            for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)
        )
        (folder / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
            # crun refuses hosts with both versions of cgroups.
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        command = [
            program, "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp",
            "system", "service", "--time", "0", f"unix://{folder}/engine.sock",
        ]  # fmt: skip
        env = {"CONTAINERS_CONF": f"{folder}/containers.conf"}
        if insecure:
            (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{insecure}"\ninsecure = true\n')
            env["CONTAINERS_REGISTRIES_CONF"] = f"{folder}/registries.conf"
        daemon = Daemon(folder, command, env)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()
            subprocess.run(
                [*command[:7], "system", "prune", "--all", "--force"], env=daemon._env, capture_output=True, check=False
            )


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tg-engine-"))
    try:
        yield folder
    finally:
        # The shims of a daemon that was killed outlive it.
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if str(folder).encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(str(folder))), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)
