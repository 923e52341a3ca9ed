"""What the agent's user can't write below a directory. Shared by checks; declares none."""

from __future__ import annotations

from dataclasses import dataclass

from taskgate.harness.sandbox.sandbox import Sandbox

# A million files are looked through in less on most disks.
SECONDS = 10.0
SHOWN = 5

# Of what another user owns: a line `P PATH` for the first that can't be written or searched, `N COUNT` for all. An
# owner may change a file's mode. Of .git only those count that git writes in place: it replaces the others. Byte code
# and caches are done without.
JUDGE = """
n=0
for f do
  case $f in
    */__pycache__|*/__pycache__/*|*.pyc|*.egg-info|*.egg-info/*|*/.*_cache|*/.*_cache/*) continue ;;
    */.git/hooks|*/.git/hooks/*|*/.git/info|*/.git/info/*|*/.git/branches) continue ;;
  esac
  if [ -d "$f" ]; then
    [ -w "$f" ] && [ -x "$f" ] && continue
  else
    case $f in */.git/logs/*|*/.git/COMMIT_EDITMSG) ;; */.git/*) continue ;; esac
    [ -w "$f" ] && continue
  fi
  n=$((n + 1))
  [ "$n" -gt 5 ] || printf 'P %s\\n' "$f"
done
echo "N $n"
"""
# Who may override permissions (the second bit of its capabilities) can write all. Without find, the shell looks itself.
WALK = """
uid= capabilities=
while read -r name first _; do
  case $name in Uid:) uid=$first ;; CapEff:) capabilities=$first ;; esac
done </proc/self/status
case $capabilities in *[2367abef]) exit 0 ;; esac
echo "U $uid"
judge=$1; shift
if command -v find >/dev/null 2>&1; then
  find "$@" ! -user "$uid" ! -type l -exec /bin/sh -c "$judge" sh {} + 2>/dev/null
  exit 0
fi
walk() {
  for f in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    [ -h "$f" ] || [ ! -e "$f" ] || [ -O "$f" ] || ( set -- "$f"; eval "$judge" )
    [ -h "$f" ] || [ ! -d "$f" ] || walk "$f"
  done
}
for root do walk "$root"; done
"""


@dataclass(frozen=True, slots=True)
class Unwritable:
    """`count` of them, `paths` of the first, for the user with the number `uid`. `whole`: all files were looked at."""

    count: int
    paths: tuple[str, ...]
    uid: str
    whole: bool

    def __str__(self) -> str:
        number = f"{'' if self.whole else 'at least '}{self.count:,} {'file' if self.count == 1 else 'files'}"
        more = ", …" if self.count > len(self.paths) else ""
        return f"{number} can't be written by the agent's user (uid {self.uid}): {', '.join(self.paths)}{more}"


def below(sandbox: Sandbox, *roots: str) -> Unwritable:
    """What lies in `roots`, links not followed, and can't be written or searched by the agent's user."""
    result = sandbox.sh(WALK, JUDGE, *roots, shown=f"find {' '.join(roots)} ! -writable", within=SECONDS)
    lines = [line.partition(" ") for line in result.lines]
    paths = [rest[:300] for kind, _, rest in lines if kind == "P"]
    count = sum(int(rest) for kind, _, rest in lines if kind == "N" and rest.isdecimal() and len(rest) < 12)
    uid = next((rest for kind, _, rest in lines if kind == "U"), "?")
    return Unwritable(max(count, len(paths)), tuple(paths[:SHOWN]), uid, result.stopped is None)
