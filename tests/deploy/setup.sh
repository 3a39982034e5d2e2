#!/usr/bin/env bash
# Installs what tests need beside Python: Debian's prometheus (with promtool) and docker-compose for those of deploy/,
# chromium for those that look at pages.
# As root on Debian or Ubuntu; otherwise it says what is missing and leaves it: the tests then skip with that reason,
# or fail where CI=true.
set -euo pipefail
packages=()
command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
command -v docker-compose >/dev/null || packages+=(docker-compose)
command -v chromium >/dev/null || packages+=(chromium)
[ ${#packages[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, and only root can do it with apt-get: ${packages[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
if ! apt-get install -q -y --no-install-recommends "${packages[@]}" >/dev/null; then
  echo "cannot be installed here: ${packages[*]}" >&2
  exit 0
fi
# Only the programs are wanted: the package's own service would listen on port 9090 of every address.
if [ -d /run/systemd/system ]; then
  systemctl disable --now prometheus prometheus-node-exporter >/dev/null 2>&1 || true
fi
