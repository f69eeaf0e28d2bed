#!/usr/bin/env bash
# Makes .venv with the interpreter given. Debian ships the module venv without ensurepip, in a
# package of its own: installed when we are root, otherwise done without, or said.
set -euo pipefail
python="$1"

[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && exit 0

make_venv() { rm -rf .venv && "$python" -m venv .venv >/dev/null 2>&1; }

if make_venv; then exit 0; fi
version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3-venv"
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null || true
    if make_venv; then exit 0; fi
fi
# The machine's own pip can fill an environment that has none.
rm -rf .venv
if "$python" -m venv --without-pip .venv 2>/dev/null &&
    "$python" -m pip --python .venv/bin/python install --quiet pip 2>/dev/null; then
    exit 0
fi
rm -rf .venv
echo "Cannot make a virtual environment with $python. As root: apt install python$version-venv" >&2
exit 1
