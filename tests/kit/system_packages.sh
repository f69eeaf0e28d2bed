#!/usr/bin/env bash
# What the tests need beyond pip: mosquitto (the production broker), chromium (the console), fuse3
# (disks that fail) and faketime (clocks that are wrong).
# Installed when missing and we are root; otherwise named, and their tests are skipped.
set -euo pipefail

missing=()
[ -x /usr/sbin/mosquitto ] || missing+=(mosquitto)
[ -x /usr/bin/chromium ] || missing+=(chromium)
command -v fusermount3 >/dev/null || missing+=(fuse3)
compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    # Tests start their own brokers: keep the package from starting its service.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
else
    echo "Tests that need them will be skipped. As root: apt install ${missing[*]}" >&2
fi
