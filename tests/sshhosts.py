"""Hosts to reach by ssh: network namespaces on this machine, each with an sshd, that can be cut off."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NUMBERS = itertools.count(1)


class Host:
    """One of them; `config` is an ssh configuration that knows it by `name`, and gives up on it after seconds."""

    def __init__(self, folder: Path) -> None:
        number = next(NUMBERS)
        self.name = f"tg{os.getpid() % 100000}n{number}"
        self._near, self.address = f"10.213.{number}.1", f"10.213.{number}.2"
        self._folder, self.config = folder, folder / "config"
        self._sshd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        outside = self.name
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "inside", "netns", self.name)
        _run("ip", "address", "add", f"{self._near}/24", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        for words in (f"address add {self.address}/24 dev inside", "link set inside up", "link set lo up"):
            _run("ip", "-n", self.name, *words.split())
        Path("/run/sshd").mkdir(exist_ok=True)
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
        assert sshd, "sshd is missing: apt-get install openssh-server"
        options = [
            f"ListenAddress={self.address}", f"HostKey={self._folder}/key", "UsePAM=no", "PidFile=none",
            f"AuthorizedKeysFile={self._folder}/key.pub", "StrictModes=no", "PermitRootLogin=yes",
        ]  # fmt: skip
        command = ["ip", "netns", "exec", self.name, sshd, "-D", "-e", "-f", "/dev/null"]
        for option in options:
            command += ["-o", option]
        log = (self._folder / f"{self.name}.log").open("wb")
        self._sshd = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        with self.config.open("a") as config:
            config.write(
                f"Host {self.name}\n  HostName {self.address}\n  User root\n  IdentityFile {self._folder}/key\n"
                "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
                "  ConnectTimeout 3\n  ServerAliveInterval 1\n  ServerAliveCountMax 3\n"
            )
        for _ in range(100):
            asked = ["ssh", "-F", str(self.config), self.name, "true"]
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError((self._folder / f"{self.name}.log").read_text())

    def cut_off(self) -> None:
        """As if its cable were pulled: nothing comes through any more, and nobody is told."""
        _run("ip", "link", "set", self.name, "down")

    def stop(self) -> None:
        inside = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        for pid in inside.stdout.split():
            subprocess.run(["kill", "-9", pid], capture_output=True, check=False)
        if self._sshd:
            self._sshd.wait(timeout=30)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    folder = Path(tempfile.mkdtemp(prefix="tg-ssh-"))
    made: list[Host] = []
    try:
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
        for _ in range(count):
            made.append(Host(folder))
            made[-1].start()
        yield made
    finally:
        for host in made:
            host.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
