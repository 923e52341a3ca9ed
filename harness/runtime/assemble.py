"""Assembles a runtime bundle. Runs inside the builder container, by that container's own Python; standard library only.

    assemble.py digest      the digest of all that goes in
    assemble.py PREFIX      makes /work/bundle.tar, whose files stand under PREFIX once they are in a task's container

It finds: /work/root, Debian packages unpacked; /work/debs, the packages; /work/site, the agent and its requirements.
Every program and library is bound to the bundle's own dynamic loader and C library: nothing is taken from the image
that the bundle will stand in, and nothing there is changed.
"""

import compileall
import configparser
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

WORK = Path("/work")
ROOT, SITE, OUT = WORK / "root", WORK / "site", WORK / "out"
LIBRARY_DIRS = ("lib", "usr/lib")
# Servers, mail, and what only a server's administrator calls.
NO_CLIENT = re.compile(r"scalar|git-(?:daemon|shell|imap-send|http-(?:backend|push|fetch)|cvs.*|svn.*|p4)")
DROPPED = {"test", "tests", "idlelib", "turtledemo", "tkinter", "lib2to3", "ensurepip", "__pycache__", "dist-packages"}
# What an image sets for its own programs must not reach these ones, but must reach what they start.
MOVED = ("LD_PRELOAD", "LD_AUDIT", "PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR")
# Files of certificates.
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

PYTHON = """\
#!{prefix}/libexec/busybox sh
for name in {moved}; do
  eval "value=\\${{$name-}}"
  [ -z "$value" ] || {{ export "TASKGATE_IMAGE_$name=$value"; unset "$name"; }}
done
unset name value
export TERMINFO_DIRS="${{TERMINFO_DIRS-}}:{prefix}/share/terminfo"
exec {prefix}/libexec/python3 "$@"
"""

RESTORE = """\
import os, sys
for name in {moved!r}:
    value = os.environ.pop("TASKGATE_IMAGE_" + name, None)
    if value is not None:
        os.environ[name] = value
# Certificates of the image that are gone: an agent's libraries would refuse to start without them.
for name in {certificates!r}:
    place = os.environ.get(name)
    try:
        if place and not os.stat(place).st_size:
            raise OSError
    except OSError:
        os.environ[name] = {prefix!r} + "/etc/ca.pem"
# What starts Python again goes through the wrapper again.
sys.executable = sys._base_executable = {prefix!r} + "/bin/python3"
"""

GIT = """\
#!{prefix}/libexec/busybox sh
unset LD_PRELOAD LD_AUDIT
export GIT_EXEC_PATH={prefix}/libexec/git-core GIT_TEMPLATE_DIR={prefix}/share/git-core/templates
export GIT_CONFIG_SYSTEM="${{GIT_CONFIG_SYSTEM-{prefix}/etc/gitconfig}}"
[ -s "${{GIT_SSL_CAINFO-}}" ] || export GIT_SSL_CAINFO={prefix}/etc/ca.pem
exec {prefix}/libexec/git-core/git "$@"
"""

# A repository is trusted whoever owns it; an agent without a name or a passwd entry can commit.
GITCONFIG = """\
[safe]
	directory = *
[user]
	name = agent
	email = agent@taskgate.invalid
[include]
	path = /etc/gitconfig
"""

SCRIPT = """\
#!{prefix}/bin/python3
import sys
from {module} import {first}
sys.exit({call}())
"""


def digest() -> str:
    """Of every package, every file of the site, and this recipe."""
    total = hashlib.sha256(Path(__file__).read_bytes())
    for deb in sorted((WORK / "debs").glob("*.deb")):
        total.update(f"{deb.name} {hashlib.sha256(deb.read_bytes()).hexdigest()}\n".encode())
    for file in sorted(SITE.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and file.name not in ("RECORD", "direct_url.json"):
            said = (
                f"{file.relative_to(SITE)} {os.access(file, os.X_OK)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n"
            )
            total.update(said.encode())
    return total.hexdigest()[:16]


class Assembly:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.out = OUT / prefix.lstrip("/")
        self.libraries: dict[str, Path] = {}
        for folder in LIBRARY_DIRS:
            for file in sorted((ROOT / folder).rglob("*.so*")):
                if file.parent.name.endswith("-linux-gnu") or file.parent.name in ("lib", "lib64"):
                    self.libraries.setdefault(file.name, file)
        (python,) = (p for p in (ROOT / "usr/lib").glob("python3.*") if (p / "os.py").exists())
        self.python = python.name

    def run(self) -> None:
        shutil.rmtree(OUT, ignore_errors=True)
        for folder in ("bin", "etc", "lib/python3", "libexec", "share"):
            (self.out / folder).mkdir(parents=True)
        self.interpreter()
        self.git()
        self.rest()
        self.site()
        self.bind()
        self.compile()
        self.pack()

    def interpreter(self) -> None:
        library = self.out / "lib" / self.python
        self.copy(f"usr/bin/{self.python}", "libexec/python3")
        shutil.copytree(
            ROOT / "usr/lib" / self.python,
            library,
            symlinks=True,
            ignore=lambda folder, names: [n for n in names if n in DROPPED or n.startswith(("config-3", "EXTERNALLY"))],
        )
        for link in [path for path in library.rglob("*") if path.is_symlink()]:
            link.unlink()
        self.edit(library / "site.py", "ENABLE_USER_SITE = check_enableusersite()", "ENABLE_USER_SITE = False")
        self.edit(
            library / "ssl.py",
            "        self.set_default_verify_paths()\n",
            "        self.set_default_verify_paths()\n"
            # Whatever certificates the image names: they may be gone.
            f"        self.load_verify_locations({self.prefix + '/etc/ca.pem'!r})\n",
        )
        self.program("bin/python3", PYTHON.format(prefix=self.prefix, moved=" ".join(MOVED)))
        for name in ("python", self.python):
            (self.out / "bin" / name).symlink_to("python3")
        # Debian's site.py looks for packages there.
        packages = self.out / "lib/python3/dist-packages"
        packages.mkdir()
        (packages / "_taskgate_runtime.py").write_text(
            RESTORE.format(prefix=self.prefix, moved=MOVED, certificates=CERTIFICATES)
        )
        (packages / "_taskgate_runtime.pth").write_text("import _taskgate_runtime\n")

    def git(self) -> None:
        core = self.out / "libexec/git-core"
        core.mkdir()
        self.copy("usr/bin/git", "libexec/git-core/git")
        for file in sorted((ROOT / "usr/lib/git-core").iterdir()):
            target = core / file.name
            if target.exists() or file.is_dir() or NO_CLIENT.fullmatch(file.name):
                continue
            if file.is_symlink():
                place = str(file.readlink())
                target.symlink_to("git" if place.endswith("/bin/git") else Path(place).name)
                continue
            head = file.read_bytes()[:64]
            if head.startswith(b"#!") and b"/bin/sh" in head.split(b"\n")[0]:
                text = file.read_text().partition("\n")[2]
                self.program(str(target.relative_to(self.out)), f"#!{self.prefix}/libexec/busybox sh\n{text}")
            elif not head.startswith(b"#!"):
                # Those in Perl would need Perl.
                shutil.copy(file, target)
        for dangling in [path for path in core.iterdir() if path.is_symlink() and not path.exists()]:
            dangling.unlink()
        shutil.copytree(ROOT / "usr/share/git-core/templates", self.out / "share/git-core/templates")
        (self.out / "etc/gitconfig").write_text(GITCONFIG)
        self.program("bin/git", GIT.format(prefix=self.prefix))

    def rest(self) -> None:
        self.copy("bin/busybox" if (ROOT / "bin/busybox").exists() else "usr/bin/busybox", "libexec/busybox")
        certificates = sorted((ROOT / "usr/share/ca-certificates/mozilla").glob("*.crt"))
        (self.out / "etc/ca.pem").write_text("".join(file.read_text().strip() + "\n" for file in certificates))
        for folder in ("lib/terminfo", "usr/lib/terminfo", "usr/share/terminfo"):
            if (ROOT / folder).is_dir():
                shutil.copytree(ROOT / folder, self.out / "share/terminfo", symlinks=True, dirs_exist_ok=True)

    def site(self) -> None:
        packages = self.out / "lib/python3/dist-packages"
        if not SITE.is_dir():
            return
        programs = SITE / "bin"
        for entry in sorted(SITE.iterdir()):
            if entry == programs or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                shutil.copytree(entry, packages / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(entry, packages / entry.name)
        for file in sorted(programs.iterdir()) if programs.is_dir() else ():
            if file.read_bytes()[:4] == b"\x7fELF":
                shutil.copy(file, self.out / "bin" / file.name)
        for points in sorted(packages.glob("*.dist-info/entry_points.txt")):
            parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
            parser.optionxform = str  # type: ignore[assignment,method-assign]
            parser.read_string(points.read_text())
            for name, place in parser.items("console_scripts") if parser.has_section("console_scripts") else ():
                module, _, call = place.partition("[")[0].strip().partition(":")
                if re.fullmatch(r"[\w.-]+", name) and re.fullmatch(r"[\w.]+", module) and re.fullmatch(r"[\w.]+", call):
                    first = call.partition(".")[0]
                    text = SCRIPT.format(prefix=self.prefix, module=module, first=first, call=call)
                    self.program(f"bin/{name}", text)

    def bind(self) -> None:
        """Bring in every library that anything needs, and bind all to the bundle's own loader."""
        (loader,) = {p.resolve() for n, p in self.libraries.items() if re.fullmatch(r"ld-linux.*\.so\.\d", n)}
        name = next(n for n in sorted(self.libraries) if re.fullmatch(r"ld-linux.*\.so\.\d", n))
        self.loader(loader, name)
        # Opened by name at run time: by pthread_cancel, getaddrinfo, and extensions in C++.
        for extra in ("libgcc_s.so.1", "libstdc++.so.6", "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"):
            self.library(extra)
        done: set[Path] = set()
        while todo := sorted(path for path in self.elves() if path not in done):
            for file in todo:
                done.add(file)
                for needed in self.patchelf("--print-needed", file).split():
                    own = any((file.parent / "..").rglob(needed)) if "dist-packages" in file.parts else False
                    if needed != name and not own:
                        self.library(needed)
        for file in sorted(done):
            self.one(file, name)

    def library(self, name: str) -> None:
        target = self.out / "lib" / name
        if name in self.libraries and not target.exists():
            data = self.libraries[name].read_bytes()
            if name.startswith("libcrypto.so"):
                # An image's openssl.cnf may be for another version, and would be read before anything is.
                data = self.replaced(data, b"openssl.cnf\0", b"taskgat.cnf\0", name)
            elif name == "libc.so.6":
                # Locales and character sets of the image's C library, which is another.
                data, count = re.subn(rb"/usr(/lib/locale|/lib/[a-z0-9_]+-linux-gnu/gconv)", rb"/nil\1", data)
                if count < 2:
                    sys.exit("the C library's own folders are not where they were expected")
            target.write_bytes(data)

    def elves(self) -> "list[Path]":
        """All dynamic programs and libraries but the loader."""
        found = []
        for path in self.out.rglob("*"):
            if path.is_symlink() or not path.is_file() or path.name.startswith("ld-linux"):
                continue
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF" and path.name != "busybox":
                    found.append(path)
        return found

    def one(self, file: Path, loader: str) -> None:
        mine = os.path.relpath(self.out / "lib", file.parent)
        paths = ["$ORIGIN" if mine == "." else f"$ORIGIN/{mine}"]
        if "dist-packages" in file.parts:
            # A wheel brings libraries of its own.
            old = self.patchelf("--print-rpath", file).strip().split(":")
            paths = [path for path in old if path.startswith("$ORIGIN")] + paths
        file.chmod(file.stat().st_mode | 0o200)
        asked = ["--force-rpath", "--set-rpath", ":".join(paths)]
        probe = subprocess.run(["patchelf", "--print-interpreter", file], capture_output=True, check=False)
        if probe.returncode == 0:
            asked += ["--set-interpreter", f"{self.prefix}/lib/{loader}"]
        subprocess.run(["patchelf", *asked, file], check=True)

    def loader(self, file: Path, name: str) -> None:
        """The dynamic loader, made blind to the image: no cache, no preload file, no system directories."""
        data = file.read_bytes()
        for known in (b"/etc/ld.so.cache\0", b"/etc/ld.so.preload\0"):
            data = self.replaced(data, known, known.replace(b"/etc/", b"/nil/"), name)
        data, count = re.subn(rb"(?<=\0)/(?:usr/)?lib/(?:[a-z0-9_]+-linux-gnu/)?(?=\0)", _nowhere, data)
        if count < 2:
            sys.exit("the loader's own directories are not where they were expected")
        target = self.out / "lib" / name
        target.write_bytes(data)
        target.chmod(0o755)

    def compile(self) -> None:
        """Byte code that depends on no time stamp, as the bundle is read-only where it is used."""
        if f"python{sys.version_info[0]}.{sys.version_info[1]}" != self.python:
            return
        for folder in (self.out / "lib" / self.python, self.out / "lib/python3"):
            compileall.compile_dir(
                folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                stripdir=str(OUT), prependdir="/", workers=1,
            )  # fmt: skip

    def pack(self) -> None:
        """The same bytes for the same files: sorted, without times and owners."""
        with tarfile.open(WORK / "bundle.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self.out.rglob("*")):
                member = tar.gettarinfo(path, str(path.relative_to(self.out)))
                member.uid = member.gid = member.mtime = 0
                member.uname = member.gname = ""
                member.mode = 0o755 if member.isdir() or path.stat().st_mode & 0o111 else 0o644
                if member.isreg():
                    with path.open("rb") as file:
                        tar.addfile(member, file)
                else:
                    tar.addfile(member)

    def copy(self, source: str, target: str) -> None:
        shutil.copy((ROOT / source).resolve(), self.out / target)
        (self.out / target).chmod(0o755)

    def program(self, target: str, text: str) -> None:
        (self.out / target).write_text(text)
        (self.out / target).chmod(0o755)

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{path.name}: {old!r} stands there {text.count(old)} times, not once")
        path.write_text(text.replace(old, new))

    @staticmethod
    def replaced(data: bytes, old: bytes, new: bytes, name: str) -> bytes:
        if data.count(old) != 1 or len(old) != len(new):
            sys.exit(f"{old!r} stands {data.count(old)} times in {name}, not once")
        return data.replace(old, new)

    @staticmethod
    def patchelf(question: str, file: Path) -> str:
        return subprocess.run(["patchelf", question, file], check=True, capture_output=True, text=True).stdout


def _nowhere(found: "re.Match[bytes]") -> bytes:
    return found[0].replace(b"lib/", b"nil/", 1)


if __name__ == "__main__":
    if sys.argv[1] == "digest":
        print(digest())
    else:
        Assembly(sys.argv[1]).run()
