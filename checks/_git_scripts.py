"""What git_repo runs in a repository, each by `_git.git`; declares no check."""

LOCKS = """
for name in index HEAD config packed-refs shallow; do
  path=$(git rev-parse --git-path "$name.lock" 2>/dev/null) && [ -e "$path" ] && echo "$path"
done; exit 0
"""

# A whole object is answered by its type, one that is missing or damaged by its id; neither type begins with
# three hexadecimal digits. No grep: an image may lack it.
OBJECTS = """
git rev-list --objects --no-walk HEAD >/dev/null || exit 1
line='
'
types=$line$(git rev-list --objects --no-walk HEAD 2>/dev/null | git cat-file --batch-check='%(objecttype) %(rest)')
case $types in
  *"$line"[0-9a-f][0-9a-f][0-9a-f]*) echo "damaged or missing objects"; exit 1 ;;
esac
"""
# Directories that .git borrows objects from and that are gone.
BORROWED = """
objects=$(git rev-parse --git-path objects) && [ -f "$objects/info/alternates" ] || exit 0
while read -r place; do
  case $place in ''|'#'*) continue ;; /*) ;; *) place=$objects/$place ;; esac
  [ -d "$place" ] || printf '%s\\n' "$place"
done <"$objects/info/alternates"
"""
# A place for an index and for objects of our own; what is in it goes with the script.
SCRATCH = """
for base in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm "${HOME:-/}"; do
  scratch=$base/.taskgate-$1
  mkdir "$scratch" "$scratch/objects" 2>/dev/null && break
  scratch=
done
[ -n "$scratch" ] || exit 77
trap 'rm -rf "$scratch"' EXIT
index=$(git rev-parse --git-path index) objects=$(git rev-parse --git-path objects)
case $objects in /*) ;; *) objects=$PWD/$objects ;; esac
case $objects in *:*) objects="\\"$objects\\"" ;; esac
[ ! -e "$index" ] || cp "$index" "$scratch/index" 2>/dev/null || cat "$index" >"$scratch/index" || exit 77
export GIT_INDEX_FILE="$scratch/index" GIT_OBJECT_DIRECTORY="$scratch/objects"
export GIT_ALTERNATE_OBJECT_DIRECTORIES="$objects"
"""
# What every harness does at the end of a run.
FINAL = f"""{SCRATCH}
git add -A && git write-tree >/dev/null && git diff --cached --no-ext-diff --no-textconv HEAD >/dev/null
"""
# A clone without all objects: the remotes that have them.
PROMISED = r"""
git config --get-regexp '^(remote\..*\.promisor|extensions\.partialclone)$' >/dev/null || exit 1
git config --get-regexp '^remote\..*\.url$'; exit 0
"""
# Prints a line where an object of a file that is checked out is missing, and ends with status 3 where one of HEAD is.
ABSENT = f"""
missing() {{
  git rev-list --objects --no-walk --missing=print "$1" | while read -r line; do
    case $line in '?'*) echo missing; break ;; esac
  done
}}
[ -n "$(missing HEAD)" ] || exit 0
{SCRATCH}
git ls-files -t | while IFS= read -r line; do
  case $line in 'S '*) printf '%s\\n' "${{line#S }}" ;; esac
done | git update-index --force-remove --stdin || exit 1
tree=$(git write-tree --missing-ok) || exit 1
missing "$tree"
exit 3
"""
TOP = """
top=$(git rev-parse --show-toplevel) || exit
here=$(pwd -P) there=$(cd "$top" && pwd -P) && [ "$here" = "$there" ] || { printf '%s\\n' "$top"; exit 9; }
"""
