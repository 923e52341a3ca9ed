import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from taskgate.checks import Warn, check
from taskgate.harness.base.redaction import redacted
from taskgate.harness.sandbox.sandbox import Sandbox

FILES = {
    **dict.fromkeys(
        ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE",
         "NODE_EXTRA_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "DENO_CERT", "CARGO_HTTP_CAINFO",
         "NIX_SSL_CERT_FILE", "UV_SSL_CERT_FILE", "npm_config_cafile", "NPM_CONFIG_CAFILE"),
        "TLS connections fail",
    ),
    **dict.fromkeys(("GIT_CONFIG", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"), "git's settings are lost"),
    **dict.fromkeys(("BASH_ENV", "PYTHONSTARTUP"), "each start prints an error"),
}  # fmt: skip
FOLDERS = {
    "GIT_SSL_CAPATH": "TLS connections fail",
    "PYTHONHOME": "Python can't start",
    "GIT_EXEC_PATH": "git's commands are not found",
    "GIT_TEMPLATE_DIR": "git init and git clone warn",
    "VIRTUAL_ENV": "tools look for packages there",
    "CONDA_PREFIX": "tools look for packages there",
    "JAVA_HOME": "Java is not found",
    "GOROOT": "go can't start",
}
# Lists whose entries may be gone one by one, but not all.
PATHS = {
    "SSL_CERT_DIR": "TLS connections fail",
    "LD_LIBRARY_PATH": "libraries are not found there",
    "PYTHONPATH": "modules are not found there",
    "NODE_PATH": "modules are not found there",
}
PROGRAMS = ("GIT_SSH", "GIT_ASKPASS", "GIT_EXTERNAL_DIFF", "SSH_ASKPASS", "SHELL")
PRELOADS = ("LD_PRELOAD", "LD_AUDIT")
# Each makes git work on something else than the directory that it is called in.
GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE")
PROXIES = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "ftp_proxy",
    "npm_config_proxy",
    "npm_config_https_proxy",
    "pip_proxy",
)
INDEXES = (
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "npm_config_registry",
    "NPM_CONFIG_REGISTRY", "GOPROXY", "HF_ENDPOINT", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL",
)  # fmt: skip
LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[?::1\]?|0\.0\.0\.0", re.ASCII)
USUAL = ("/usr/bin", "/bin", "/usr/local/bin")
# Pairs of a kind and a path: the numbers of those that are not there.
ABSENT = """
n=0
while [ $# -gt 0 ]; do
  n=$((n + 1))
  case $1 in
    file) [ -r "$2" ] && [ -s "$2" ] && [ ! -d "$2" ] || [ "$2" = /dev/null ] ;;
    folder) [ -d "$2" ] ;;
    program) command -v -- "$2" >/dev/null 2>&1 ;;
  esac || echo "$n"
  shift 2
done
"""
LOCALE = """
command -v locale >/dev/null 2>&1 || exit 0
for known in $(LC_ALL=C locale -a 2>/dev/null); do
  [ "$known" != "$1" ] && [ "$known" != "$2" ] || exit 0
done
exit 1
"""


@check(after="shell", advisory=True)
def environment(sandbox: Sandbox) -> Iterator[str]:
    """No environment variable of the image points nowhere: certificates, proxies, libraries, git's and Python's own.

    Take the variable out of the Dockerfile (`ENV NAME=` empties it), or give it its value in the manifest's `env`.
    """
    env = {**sandbox.image.env, **sandbox.task.env}
    for reason in (*_gone(sandbox, env), *_proxies(sandbox, env), *_others(sandbox, env)):
        yield Warn(reason)


def _gone(sandbox: Sandbox, env: Mapping[str, str]) -> Iterator[str]:
    """Variables that name files, directories or programs which are not there."""
    named = list(_named(env))
    asked = [text for _, kind, path, _ in named for text in (kind, path)]
    absent = {line.strip() for line in sandbox.sh(ABSENT, *asked).lines} if asked else set()
    missing = [entry for number, entry in enumerate(named, 1) if str(number) in absent]
    for name, _, path, harm in missing:
        entries = [entry for entry in named if entry[0] == name]
        if name not in PATHS:
            yield f"{name}={path[:200]} names what is not there: {harm}"
        elif all(entry in missing for entry in entries) and path == entries[0][2]:
            yield f"{name}={env[name][:200]} names nothing that is there: {harm}"


def _named(env: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Variable, kind, path, and what comes of it where that is not there."""
    for name in filter(env.get, FILES):
        yield name, "file", env[name], FILES[name]
    for name in filter(env.get, FOLDERS):
        yield name, "folder", env[name], FOLDERS[name]
    for name in filter(env.get, PATHS):
        yield from ((name, "folder", path, PATHS[name]) for path in env[name].split(":")[:50] if path.startswith("/"))
    for name in filter(env.get, PROGRAMS):
        yield name, "program", env[name], "what is started by it fails"
    for name in filter(env.get, PRELOADS):
        for path in re.split(r"[ :]+", env[name])[:20]:
            if path.startswith("/") and "$" not in path:
                yield name, "file", path, "every program prints an error, or fails"


def _proxies(sandbox: Sandbox, env: Mapping[str, str]) -> Iterator[str]:
    """Proxies that the image's build needed and the agent has not, and servers on an interface that has none."""
    by_value: dict[str, list[str]] = {}
    for name, value in sorted(env.items()):
        if value and name.lower() in PROXIES:
            by_value.setdefault(value, []).append(name)
    for value, names in by_value.items():
        shown = f"{' and '.join(names)}={redacted(value)[:200]}"
        if _loopback(value) and sandbox.task.network != "host":
            yield f"{shown} names a proxy in the container itself, where none runs"
        elif not any(name in sandbox.task.env for name in names):
            yield f"{shown} was left in the image: every request goes to that proxy, or fails"
    for name in filter(env.get, INDEXES):
        if _loopback(env[name]) and sandbox.task.network != "host":
            yield f"{name}={redacted(env[name])[:200]} names a server in the container itself, where none runs"


def _loopback(url: str) -> bool:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return False
    return bool(LOOPBACK.fullmatch(host))


def _others(sandbox: Sandbox, env: Mapping[str, str]) -> Iterator[str]:
    for name in filter(env.get, GIT):
        yield f"{name}={env[name][:200]} is set: git works on that, in whatever directory it is called"
    if "PATH" in env and not set(USUAL) & {path.rstrip("/") for path in env["PATH"].split(":")}:
        yield f"PATH={env['PATH'][:200]} has none of {', '.join(USUAL)}: the system's programs are not found"
    chosen = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if env.get(name)), "")
    language, _, encoding = env.get(chosen, "").partition(".")
    if chosen and language not in ("C", "POSIX"):
        # As `locale -a` spells it.
        spelled = f"{language}.{encoding.lower().replace('-', '')}" if encoding else language
        if sandbox.sh(LOCALE, env[chosen], spelled).code:
            yield f"{chosen}={env[chosen][:100]} is not installed: programs warn of the locale, and fall back to ASCII"
