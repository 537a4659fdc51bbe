#!/bin/sh
# Which Pythons this machine has of those that edgepact runs on, newest first, one a line.
#
# Each is run before it is named: a shim of pyenv may lie on the path for a version that is not
# active, and a distribution may leave out what virtual environments need.
for version in 3.13 3.12 3.11; do
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/"python$version"; do
        found=$("$python" -c "
import ensurepip, sys, venv
assert '%d.%d' % sys.version_info[:2] == '$version'
print(sys.executable)" 2>/dev/null) && echo "$found" && break
    done
done
