#!/bin/bash
# Runs a broker in a root file system that image.sh has built. All processes that it starts end with it,
# including Erlang's port mapper, which would otherwise continue in the background.
# usage: unshare --mount --pid --fork --kill-child enter.sh ROOT DIRECTORY COMMAND…
#   DIRECTORY  is mounted on /srv, where the broker has its configuration and its data
set -euo pipefail

root=$1 directory=$2
shift 2
mount --bind "$directory" "$root/srv"
mount -t proc proc "$root/proc"
exec chroot "$root" /usr/bin/env --ignore-environment --chdir=/srv \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/srv LANG=C.UTF-8 "$@"
