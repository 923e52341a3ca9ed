"""The runtime in images that have nothing, or that have what gets in its way. Real containers, of every base."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from examples import images
from taskgate.checks import _registry as registry
from taskgate.harness.base.errors import (
    BundleError,
    ImageNotFound,
    InfraError,
    NoSpace,
    PlatformUnavailable,
    UsageError,
)
from taskgate.harness.engine import ownership
from taskgate.harness.engine.client import Engine
from taskgate.harness.gate.gate import Gate
from taskgate.harness.gate.verdict import Outcome, Record
from taskgate.harness.runtime import builder, injected, layer, self_test, sources, volume
from taskgate.harness.runtime.bundle import Bundle, Store
from taskgate.harness.runtime.delivery import Delivery
from taskgate.harness.tasks.runtime_spec import Runtime
from taskgate.harness.tasks.task import Agent, Task
from tests import emulation
from tests.authorization import forbidding
from tests.conftest import CLONE
from tests.conftest import Gate as Pytest

AGENT = str(CLONE / "examples/agent.py")
PROGRAM = r"""
#include <stdio.h>
int main(void) { puts("the image's own tool"); return 0; }
"""
FATAL = r"""
#include <unistd.h>
__attribute__((constructor)) static void fatal(void) { _exit(42); }
"""
PYTHON = """
import asyncio, ctypes, os, socket, sqlite3, ssl, subprocess, sys, tempfile, yaml, yaml._yaml, agent
assert sys.prefix.startswith("/.taskgate/"), sys.prefix
assert not [p for p in sys.path if p and not p.startswith(sys.prefix)], sys.path
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
assert len(ssl.create_default_context().get_ca_certs()) > 50
assert ctypes.CDLL(None).getpid() == os.getpid()
assert asyncio.run(asyncio.sleep(0, 7)) == 7
assert yaml.load("a: [1]", Loader=yaml.CSafeLoader) == {"a": [1]}
again = subprocess.run([sys.executable, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
assert again.stdout.strip() == sys.prefix, again
maps = {line.split()[-1] for line in open("/proc/self/maps") if line.split()[-1].startswith("/")}
assert not [m for m in maps if not m.startswith(sys.prefix) and "qemu" not in m], maps
print("python is sound")
"""
GIT = """
set -e
cd "$1"
mkdir r; cd r
"$2" init -q -b main .
echo one >file
"$2" add file
"$2" commit -qm one
echo two >file
[ "$("$2" diff --name-only)" = file ]
"$2" commit -qam two
[ "$("$2" log --format=%s | tr '\\n' ' ')" = "two one " ]
echo "git is sound"
"""


@pytest.fixture(scope="session")
def runtime(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """taskgate's own bundle with the demo agent and one requirement that has an extension in C."""
    requirements = tmp_path_factory.mktemp("runtime") / "requirements.txt"
    requirements.write_text("PyYAML==6.0.2\n")
    return Runtime(builder=images.base(client), agent=AGENT, requirements=str(requirements))


@pytest.fixture(scope="session")
def bundle(engine: Engine, runtime: Runtime) -> Bundle:
    made = sources.resolve(engine, Store(), runtime, engine.platform)
    volume.ensure(engine, made, Store())
    return made


def _compiled(folder: Path, source: str, *command: str) -> bytes:
    (folder / "x.c").write_text(source)
    subprocess.run([*command, "-o", str(folder / "x"), str(folder / "x.c")], check=True)
    return (folder / "x").read_bytes()


@pytest.fixture(scope="session")
def bases(client: Any, sound: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An image of every kind."""
    arch = client.version()["Arch"]
    folder = tmp_path_factory.mktemp("c")
    busybox = Path("/bin/busybox").read_bytes()
    musl_tool = _compiled(folder, PROGRAM, "musl-gcc")
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    fatal = _compiled(folder, FATAL, "gcc", "-shared", "-fPIC")
    # An image's own git would come first on the agent's PATH, and fail.
    broken = "RUN for f in /usr/bin/python3*; do echo broken >$f; done; rm /usr/bin/git\nCOPY fatal.so /fatal.so\n"
    environment = "ENV LD_PRELOAD=/fatal.so PYTHONHOME=/nowhere PYTHONPATH=/nowhere LD_LIBRARY_PATH=/nowhere"

    def load(name: str, files: dict[str, bytes]) -> str:
        return images.load(client, f"taskgate-test/{name}:1", files, arch, dict.fromkeys(files, 0o755))

    return {
        "bookworm": images.base(client),
        "trixie": images.base(client, "trixie"),
        "busybox": load("rt-busybox", {"bin/sh": busybox, "bin/busybox": busybox}),
        "musl": load(
            "rt-musl",
            {f"lib/{loader.name}": loader.resolve().read_bytes(), "bin/tool": musl_tool, "bin/sh": busybox},
        ),
        "one-program": load("rt-one", {"app": _compiled(folder, PROGRAM, "gcc", "-static")}),
        "empty": load("rt-empty", {}),
        "hostile": images.build(
            client, "taskgate-test/rt-hostile:1", f"FROM {sound}\n{broken}{environment}", {"fatal.so": fatal}
        ),
    }


BASES = ("bookworm", "trixie", "busybox", "musl", "one-program", "empty", "hostile")
TOOLS = {
    "bookworm": ["/usr/bin/python3", "--version"],
    "trixie": ["/usr/bin/python3", "--version"],
    "busybox": ["/bin/busybox", "echo", "busybox"],
    "musl": ["/bin/tool"],
    "one-program": ["/app"],
}


def _run(client: Any, image: str, command: list[str], bundle: Bundle | None, **more: Any) -> tuple[int, str]:
    made = _create(client, image, command, bundle, **more)
    try:
        made.start()
        status = made.wait(timeout=120)["StatusCode"]
        return status, made.logs().decode("utf-8", "replace")
    finally:
        made.remove(force=True, v=True)


def _create(client: Any, image: str, command: list[str], bundle: Bundle | None, **more: Any) -> Any:
    api, user = client.api, more.pop("user", None)
    host = api.create_host_config(binds=[volume.bind(bundle)] if bundle else None, network_mode="none", **more)
    made = api.create_container(image, entrypoint=command[:1], command=command[1:], user=user, host_config=host)
    return client.containers.get(made["Id"])


def _prove(client: Any, image: str, bundle: Bundle, **more: Any) -> None:
    """Python, git and the agent work in there; as an arbitrary user too, without a home or a writable root."""
    assert bundle.python and bundle.git and bundle.shell
    status, said = _run(client, image, [bundle.python, "-c", PYTHON], bundle, **more)
    assert (status, said) == (0, "python is sound\n")
    given = {**more, "tmpfs": {"/work": "mode=1777"}}
    status, said = _run(client, image, [*bundle.shell, "-c", GIT, "sh", "/work", bundle.git], bundle, **given)
    assert (status, said) == (0, "git is sound\n")


@pytest.mark.parametrize("base", BASES)
def test_it_runs_in(client: Any, bases: dict[str, str], bundle: Bundle, base: str) -> None:
    _prove(client, bases[base], bundle)


@pytest.mark.parametrize("base", BASES)
def test_as_any_user_on_a_read_only_root(client: Any, bases: dict[str, str], bundle: Bundle, base: str) -> None:
    _prove(client, bases[base], bundle, user="4321:4321", read_only=True)


@pytest.mark.parametrize("base", TOOLS)
def test_the_images_own_tools_are_as_they_were(client: Any, bases: dict[str, str], bundle: Bundle, base: str) -> None:
    before = _run(client, bases[base], TOOLS[base], None)
    assert before[0] == 0 and _run(client, bases[base], TOOLS[base], bundle) == before


def test_what_the_image_sets_for_its_own_programs_reaches_them(
    client: Any, bases: dict[str, str], bundle: Bundle
) -> None:
    """The runtime steps out of the way of LD_PRELOAD and the like; what the agent starts has them again."""
    code = "import os; print(os.environ['LD_PRELOAD'], os.environ['PYTHONHOME'], os.system('/bin/true') >> 8)"
    assert bundle.python
    assert _run(client, bases["hostile"], [bundle.python, "-c", code], bundle) == (0, "/fatal.so /nowhere 42\n")


def test_an_agent_cannot_alter_it(client: Any, bases: dict[str, str], bundle: Bundle) -> None:
    assert bundle.shell
    script = f"touch {bundle.prefix}/x; rm {bundle.prefix}/bin/git; echo $?"
    status, said = _run(client, bases["empty"], [*bundle.shell, "-c", script], bundle)
    assert said.count("Read-only file system") == 2 and "1" in said.splitlines(), (status, said)


def test_nothing_else_changes(client: Any, bases: dict[str, str], bundle: Bundle) -> None:
    made = _create(client, bases["bookworm"], ["/bin/true"], bundle)
    try:
        made.start()
        made.wait()
        changed = {change["Path"] for change in made.diff()} - {"/dev", "/etc", "/proc", "/sys"}
        assert changed <= {"/.taskgate", bundle.prefix}
    finally:
        made.remove(force=True)


# The gate.


@pytest.fixture(scope="session")
def judge(engine: Engine) -> Any:
    return Gate(lambda: engine, registry.load(), session=ownership.new_session()).judge


def _task(image: str, runtime: Runtime, **more: Any) -> Task:
    task = Task("one", image, repo_path=None, workdir="/", agent=Agent(module="agent"), runtime=runtime, pull="never")
    return dataclasses.replace(task, **{"checks": {"tmp": "off"}, **more})


@pytest.mark.parametrize("mode", ["auto", "mount", "layer", "build"])
@pytest.mark.parametrize("base", BASES)
def test_the_gate_judges_with_it(
    judge: Any, bases: dict[str, str], runtime: Runtime, base: str, mode: str, client: Any, bundle: Bundle
) -> None:
    record: Record = judge(_task(bases[base], dataclasses.replace(runtime, mode=mode)))
    assert record.verdict == "healthy", record
    told = {finding.check: finding.outcome for finding in record.findings}
    assert told["python_available"] is told["agent_start"] is told["git_available"] is Outcome.PASS
    shell = Outcome.WARN if base in ("one-program", "empty", "hostile") else Outcome.PASS
    assert told["shell"] is shell


def test_the_gate_judges_a_repository_with_the_runtimes_git(
    judge: Any, client: Any, sound: str, runtime: Runtime
) -> None:
    lines = "RUN rm /usr/bin/git /usr/bin/python3* && chown -R 1234 /testbed"
    image = images.build(client, "taskgate-test/rt-no-git:1", f"FROM {sound}\n{lines}")
    record: Record = judge(_task(image, runtime, repo_path="/testbed", workdir=None))
    told = {finding.check: finding.outcome for finding in record.findings}
    assert record.verdict == "healthy" and told["git_repo"] is Outcome.PASS, record
    corrupt = images.build(client, "taskgate-test/rt-corrupt:1", f"FROM {image}\nRUN rm -r /testbed/.git/objects")
    record = judge(_task(corrupt, runtime, repo_path="/testbed", workdir=None))
    assert (record.verdict, record.check) == ("broken", "git_repo")


def test_an_agent_that_does_not_start_is_found(judge: Any, client: Any, bases: dict[str, str], tmp_path: Path) -> None:
    """It starts in no image: what was brought is at fault, not the image."""
    (tmp_path / "agent.py").write_text("import not_there\n")
    runtime = Runtime(builder=images.base(client), agent=str(tmp_path / "agent.py"))
    record: Record = judge(_task(bases["empty"], runtime))
    assert record.verdict == "infra" and "not_there" in (record.reason or ""), record


def test_auto_takes_a_layer_where_volumes_are_forbidden(engine: Engine, bundle: Bundle, tmp_path: Path) -> None:
    """A proxy before the engine refuses what concerns volumes, as an authorization plugin does."""
    with forbidding(Path("/var/run/docker.sock"), tmp_path / "d.sock", "/volumes/create") as url:
        limited = Engine(url)
        assert Delivery(limited, Store(), bundle, "auto").mode == "layer"
        with pytest.raises(InfraError, match="forbidden by the owner"):
            Delivery(limited, Store(), bundle, "mount")
        limited.close()
    assert Delivery(engine, Store(), bundle, "auto").mode == "mount"


# Other architectures.


def test_arm64(engine: Engine, client: Any, runtime: Runtime, judge: Any, tmp_path_factory: Any) -> None:
    with emulation.arm64(Path("/tmp/taskgate-test-arm64.lock")):
        made = sources.resolve(engine, Store(), runtime, "linux/arm64")
        volume.ensure(engine, made, Store())
        with tarfile.open(Store().tar(made)) as tar:
            busybox = tar.extractfile("libexec/busybox")
            assert busybox
            shell = busybox.read()
        image = images.load(client, "taskgate-test/rt-arm64:1", {"bin/sh": shell}, "arm64", {"bin/sh": 0o755})
        _prove(client, image, made)
        assert made.python
        code = "import platform; print(platform.machine())"
        assert _run(client, image, [made.python, "-c", code], made) == (0, "aarch64\n")
        record: Record = judge(_task(image, runtime, platform="linux/arm64", timeout=120))
        assert record.verdict == "healthy", record


# How it is made.


def test_the_same_inputs_give_the_same_bytes(engine: Engine, runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    again = sources.resolve(engine, Store(tmp_path / "store"), runtime, engine.platform)
    assert again.digest == bundle.digest
    assert Store(tmp_path / "store").tar(again).read_bytes() == Store().tar(bundle).read_bytes()


def test_a_bundle_that_leans_on_the_image_fails_its_proof(engine: Engine, bundle: Bundle, tmp_path: Path) -> None:
    """A library less: the loader would look for it in the image."""
    lame = dataclasses.replace(bundle, digest="0" * 16)
    with tarfile.open(Store().tar(bundle)) as source, tarfile.open(tmp_path / "lame.tar", "w") as out:
        for member in source:
            if member.name != "lib/libsqlite3.so.0":
                out.addfile(member, source.extractfile(member) if member.isreg() else None)
    with pytest.raises(BundleError, match="libsqlite3"):
        self_test.prove(engine, lame, tmp_path / "lame.tar")
    assert volume.name_of(lame) not in volume.volumes(engine)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("calling init: /p/lib/a.so\n" * 20 + "  trying file=/lib/x86_64-linux-gnu/libz.so.1\n", "outside"),
        ("calling init: /p/lib/a.so\n" * 20 + "  calling init: /p/../lib/libz.so.1\n", "outside"),
        ("calling init: /p/lib/a.so\n" * 20 + "git: error while loading shared libraries: libz.so.1\n", "lacks"),
        ("nothing at all\n", "nothing is proven"),
    ],
)
def test_what_the_loader_said_is_read(said: str, problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        self_test.check(said, "/p")
    self_test.check("calling init: /p/lib/a.so\n" * 20, "/p")


def test_requirements_that_are_none(engine: Engine, client: Any, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("no-such-package-by-this-name-anywhere==1\n")
    base = images.base(client)
    for given in (
        {"requirements": str(tmp_path / "r.txt")},
        {"requirements": str(tmp_path / "absent.txt")},
        {"agent": str(tmp_path / "absent")},
        {"builder": "taskgate-test/absent:1"},
    ):
        with pytest.raises((UsageError, InfraError)):
            runtime = Runtime(**{"builder": base, **given})
            builder.make(engine, Store(tmp_path / "s"), "k", runtime, "linux/amd64")
    assert not list((tmp_path / "s").glob("*.json")) and not list((tmp_path / "s").glob("*.tar"))


def test_a_mistake_in_it_is_told_once(gate: Pytest, sound: str, client: Any) -> None:
    head = f"version: 1\ndefaults: {{runtime: {{agent: absent.py, builder: '{images.base(client)}'}}}}\n"
    text = f"{head}tasks: ['{sound}']\n"
    run = gate(text)
    assert run.status == 4 and "runtime.agent: there is no" in run.output and "Traceback" not in run.output


# Other sources.


def test_from_an_image(engine: Engine, client: Any, judge: Any, bases: dict[str, str]) -> None:
    """The Miniconda way: a runtime that stands in some image at some path."""
    shell = Path("/bin/busybox").read_bytes()
    script = b"#!/opt/thing/bin/sh\necho 'thing of the image'\n"
    files = {"opt/thing/bin/sh": shell, "opt/thing/bin/thing": script, "etc/other": b"x"}
    source = images.load(
        client, "taskgate-test/rt-source:1", files, client.version()["Arch"], dict.fromkeys(files, 0o755)
    )
    runtime = Runtime(from_image=source, path="/opt/thing")
    for mode in ("mount", "layer", "build"):
        command = Agent(command=("/opt/thing/bin/thing",))
        given = dataclasses.replace(runtime, mode=mode)
        record: Record = judge(
            _task(bases["busybox"], given, agent=command, python=None, checks={"git_available": "off", "tmp": "off"})
        )
        assert record.verdict == "healthy", (mode, record)


@pytest.mark.parametrize("error", [ImageNotFound("it is nowhere"), PlatformUnavailable("it is not published for it")])
def test_from_an_image_that_cannot_be_had(tmp_path: Path, error: Exception) -> None:
    def image(task: Task) -> None:
        raise error

    runtime, engine = Runtime(from_image="x/y:1", path="/opt/x"), SimpleNamespace(image=image)
    with pytest.raises(UsageError, match=f"^runtime.from_image: {error}"):
        sources.resolve(engine, Store(tmp_path / "s"), runtime, "linux/arm64")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["directory", "tar"])
def test_from_files_of_this_host(judge: Any, bases: dict[str, str], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "thing"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
    (folder / "bin/sh").chmod(0o755)
    (folder / "bin/thing").symlink_to("sh")
    with tarfile.open(tmp_path / "thing.tar.gz", "w:gz") as tar:
        tar.add(folder, ".")
    name = str(folder if kind == "directory" else tmp_path / "thing.tar.gz")
    runtime = Runtime(
        path="/opt/thing", directory=name if kind == "directory" else None, tar=name if kind == "tar" else None
    )
    command = Agent(command=("/opt/thing/bin/sh", "-c", "true"))
    off = {"git_available": "off", "tmp": "off"}
    record: Record = judge(_task(bases["busybox"], runtime, agent=command, python=None, checks=off))
    assert record.verdict == "healthy", record


@pytest.mark.parametrize("name", ["../out", "/abs/../../out", "ok/../../out"])
def test_a_tar_that_leads_out_is_refused(engine: Engine, tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(UsageError, match="leads out"):
        sources.resolve(
            engine, Store(tmp_path / "s"), Runtime(tar=str(tmp_path / "x.tar"), path="/opt/x"), "linux/amd64"
        )


# Layers.


def test_a_layer_keeps_everything_of_its_base(engine: Engine, client: Any, sound: str, bundle: Bundle) -> None:
    lines = (
        'ENTRYPOINT ["/bin/odd", "entry"]\nCMD ["a b"]\nENV X="y z" EMPTY=\nUSER dev\nLABEL k="v \\"q\\""\n'
        "HEALTHCHECK --interval=7s CMD /bin/odd\nEXPOSE 80/tcp\nVOLUME /vol\nWORKDIR /testbed\nSTOPSIGNAL SIGINT\n"
        'SHELL ["/bin/odd", "-c"]\nONBUILD RUN true'
    )
    base = client.images.get(images.build(client, "taskgate-test/rt-config:1", f"FROM {sound}\n{lines}"))
    made = client.images.get(layer.append(engine, bundle, Store(), base.id))
    old, new = base.attrs["Config"], made.attrs["Config"]
    assert {**new, "Labels": None} == {**old, "Labels": None}
    assert {**new["Labels"], injected.LABEL: None} == {**old["Labels"], injected.LABEL: None}
    assert made.attrs["RootFS"]["Layers"][:-1] == base.attrs["RootFS"]["Layers"]
    assert (made.attrs["Architecture"], made.attrs["Os"]) == (base.attrs["Architecture"], base.attrs["Os"])
    past, before = made.history(), base.history()
    assert [line["CreatedBy"] for line in past[1:]] == [line["CreatedBy"] for line in before]
    assert [line["Size"] for line in past[1:]] == [line["Size"] for line in before]
    assert bundle.digest in past[0]["CreatedBy"]


def test_only_the_runtimes_files_are_added(engine: Engine, client: Any, bases: dict[str, str], bundle: Bundle) -> None:
    def listing(image: str) -> dict[str, tuple[Any, ...]]:
        made = client.containers.create(image, entrypoint=["none"])
        try:
            with tarfile.open(fileobj=io.BytesIO(b"".join(made.export()))) as tar:
                return {m.name: (m.mode, m.uid, m.gid, m.size, m.linkname, m.type) for m in tar}
        finally:
            made.remove(force=True)

    before, after = (
        listing(bases["bookworm"]),
        listing(layer.append(engine, bundle, Store(), client.images.get(bases["bookworm"]).id)),
    )
    added = {name: told for name, told in after.items() if before.get(name) != told}
    below = bundle.prefix.lstrip("/")
    assert all(name.rstrip("/") == ".taskgate" or name.startswith(below) for name in added)
    assert set(before) <= set(after)


def test_a_store_that_refuses_the_layer_is_given_a_build(
    engine: Engine, client: Any, bases: dict[str, str], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """containerd's store says `layer not found`; here the engine says it, as the base's layers are misnamed."""
    real = layer._load

    def misnamed(engine: Engine, about: dict[str, Any], *rest: Any) -> None:
        layers = ["sha256:" + "1" * 64, *about["rootfs"]["diff_ids"][1:]]
        real(engine, {**about, "rootfs": {"type": "layers", "diff_ids": layers}}, *rest)

    monkeypatch.setattr(layer, "_load", misnamed)
    tag = "taskgate-test/rt-refused:1"
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(tag)
    made = client.images.get(layer.append(engine, bundle, Store(), client.images.get(bases["bookworm"]).id, tag))
    assert "COPY" in made.history()[1]["CreatedBy"]
    assert made.attrs["RootFS"]["Layers"][:-1] == client.images.get(bases["bookworm"]).attrs["RootFS"]["Layers"]


def test_a_folder_above_it_stays_as_the_image_has_it(engine: Engine, client: Any, sound: str, tmp_path: Path) -> None:
    odd = images.build(
        client, "taskgate-test/rt-opt:1", f"FROM {sound}\nRUN chown 1234 /opt && chmod 2751 /opt && touch /opt/mine"
    )
    (tmp_path / "thing/bin").mkdir(parents=True)
    (tmp_path / "thing/bin/x").write_text("x")
    made = sources.resolve(
        engine,
        Store(tmp_path / "s"),
        Runtime(directory=str(tmp_path / "thing"), path="/opt/deep/thing"),
        engine.platform,
    )
    image = layer.append(engine, made, Store(tmp_path / "s"), client.images.get(odd).id)
    told = client.containers.run(
        image, ["-c", "stat -c '%a %u' /opt /opt/deep; ls /opt"], entrypoint=["/bin/sh"], remove=True
    )
    assert told.decode().split() == ["2751", "1234", "755", "0", "deep", "mine"]


def test_a_link_above_it_is_the_images_fault(judge: Any, client: Any, sound: str, tmp_path: Path) -> None:
    (tmp_path / "thing/bin").mkdir(parents=True)
    odd = images.build(client, "taskgate-test/rt-link:1", f"FROM {sound}\nRUN rmdir /opt && ln -s /etc /opt")
    runtime = Runtime(directory=str(tmp_path / "thing"), path="/opt/thing", mode="layer")
    record: Record = judge(_task(odd, runtime))
    assert (record.verdict, record.check) == ("broken", "container_start") and "/opt is not a folder there" in (
        record.reason or ""
    )


def test_a_full_disk_leaves_nothing_half_made(engine: Engine, client: Any, tmp_path: Path) -> None:
    """A volume with room for a few pages, on which the engine says ENOSPC for real."""
    (tmp_path / "thing/bin").mkdir(parents=True)
    (tmp_path / "thing/bin/big").write_bytes(os.urandom(2_000_000))
    store = Store(tmp_path / "s")
    made = sources.resolve(engine, store, Runtime(directory=str(tmp_path / "thing")), engine.platform)
    name = volume.name_of(made)
    # Held by a container, as the engine forgets a tmpfs that nobody has mounted.
    small = {"type": "tmpfs", "device": "tmpfs", "o": "size=200k"}
    client.volumes.create(name, driver_opts=small)
    base = images.base(client)
    holder = client.containers.run(base, ["sleep", "300"], volumes={name: {"bind": "/v"}}, detach=True)
    try:
        with pytest.raises(NoSpace):
            volume.ensure(engine, made, store)
        assert holder.exec_run(["ls", f"/v/{volume.MARK}"]).exit_code != 0
    finally:
        holder.remove(force=True)
        client.volumes.get(name).remove()
    # With room again it is made whole.
    volume.ensure(engine, made, store)
    assert engine.remove_volume(name)
