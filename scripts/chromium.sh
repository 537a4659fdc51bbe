#!/bin/sh
# A Chromium for the tests of the live page: the one that is there, or Debian's.
set -eu
for name in chromium chromium-browser chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if ! command -v apt-get >/dev/null; then
    echo "expected a Chromium on this machine; install one and run this again" >&2
    exit 1
fi
echo "Installing Chromium from this machine's packages ..."
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends chromium >/dev/null
