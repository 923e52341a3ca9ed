"""Starting a server agent and waiting for its health. Shared by checks; declares none."""

# Leaves the server running: it ends with the check.
BY_PYTHON = """
import subprocess, sys, time, urllib.error, urllib.request
url, mark, *argv = sys.argv[1:]
server = subprocess.Popen(argv)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while server.poll() is None:
    try:
        opener.open(url, timeout=5).close()
        print("\\n" + mark + " ready", flush=True)
        sys.exit()
    except urllib.error.HTTPError as error:
        print("%s answers %d" % (url, error.code), flush=True)
    except OSError:
        pass
    time.sleep(0.1)
print("\\n" + mark + " ended with status %d" % server.returncode, flush=True)
sys.exit(137 if server.returncode == -9 else 1)
"""
# The same without Python: by curl or wget, else the kernel's list of ports tells that it listens ($3: hexadecimal).
BY_SHELL = """
url=$1 mark=$2 port=$3; shift 3
"$@" &
server=$!
export no_proxy='*' NO_PROXY='*'
if command -v curl; then ask() { curl -fsS -o /dev/null --max-time 5 "$url"; }
elif command -v wget; then ask() { wget -q -T 5 -O /dev/null "$url"; }
else
  ask() {
    for list in /proc/net/tcp /proc/net/tcp6; do
      while read -r _ place _ state _; do
        case $place:$state in *:"$port":0A) asked=listens; return 0 ;; esac
      done 2>/dev/null <"$list"
    done
    return 1
  }
fi >/dev/null 2>&1
asked=ready
while :; do
  stat=; read -r stat 2>/dev/null <"/proc/$server/stat"
  case ${stat##*") "} in ''|[ZX]*) break ;; esac
  if ask; then printf '\\n%s %s\\n' "$mark" "$asked"; exit 0; fi
  sleep 0.1 2>/dev/null || sleep 1
done
wait "$server"; status=$?
printf '\\n%s ended with status %s\\n' "$mark" "$status"
[ "$status" = 137 ] && exit 137
exit 1
"""
