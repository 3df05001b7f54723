#!/bin/sh
# Install those of the named Debian packages that are missing, and say so.
set -eu

missing=
for package in "$@"; do
  status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  case $status in
    ii*) ;;
    *) missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "error: these programs are needed:$missing" >&2
  echo "fix: install them with your system's package manager" >&2
  exit 2
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "error: these Debian packages are missing:$missing" >&2
    echo "fix: as root, apt-get install$missing" >&2
    exit 2
  fi
  as_root=sudo
fi
echo "Installing missing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# The lists of a fresh machine may be empty or old.
# shellcheck disable=SC2086  # a list of package names is meant to be split
{
  $as_root apt-get update -qq
  $as_root apt-get install -qq -y --no-install-recommends $missing
} >/dev/null
