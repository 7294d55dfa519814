#!/bin/bash
# Prints the reason and fails if no container can be booted here. Prints nothing otherwise.
#
# The script tries the operations of tests/machine/boot.sh, which mounts file systems and creates cgroups.
# Docker allows neither by default.
set -euo pipefail

if ((EUID != 0)); then
    echo "booting a container needs root"
    exit 1
fi
cgroup=/sys/fs/cgroup
[[ ! -d $cgroup/systemd ]] || cgroup=$cgroup/systemd
try=$cgroup/iotmonitor-try-$$
# shellcheck disable=SC2016
if ! error=$(unshare --mount sh -ec 'mount -t tmpfs tmpfs /mnt; mkdir "$1"; rmdir "$1"' sh "$try" 2>&1)
then
    echo "no container can be booted here (${error//$'\n'/; })"
    exit 1
fi
