# Runs in the builder container: build.sh ARCHITECTURE PACKAGE...
# Fetches Debian's packages for that architecture with all that they need, unpacks them (nothing of theirs is run, so
# a foreign architecture is as good), and has assemble.py make the bundle.
set -eu
export DEBIAN_FRONTEND=noninteractive
architecture=$1
shift
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3 patchelf >/dev/null
mkdir -p /work/debs/partial /work/root
: >/work/status
fetch() {
  apt-get -o Dir::State::status=/work/status -o Dir::Cache::archives=/work/debs -o APT::Architecture="$architecture" \
    -o APT::Architectures="$architecture" -o APT::Sandbox::User=root "$@"
}
fetch update -qq
fetch install --download-only -y -qq --no-install-recommends "$@" >/dev/null
for deb in /work/debs/*.deb; do dpkg-deb -x "$deb" /work/root; done
python3 /work/assemble.py digest >/work/digest
python3 /work/assemble.py "/.taskgate/$(cat /work/digest)"
