#!/usr/bin/env bash
# Installs what the deployment's tests need beside Python: Debian's prometheus (with promtool) and docker-compose.
# As root on Debian or Ubuntu; otherwise it says what is missing and leaves it: the tests then skip with that reason,
# or fail where CI=true.
set -euo pipefail
packages=()
command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
command -v docker-compose >/dev/null || packages+=(docker-compose)
[ ${#packages[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed, and only root can do it with apt-get: ${packages[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -q -y --no-install-recommends "${packages[@]}" >/dev/null || {
  echo "cannot be installed here: ${packages[*]}" >&2
  exit 0
}
