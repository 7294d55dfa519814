#!/bin/bash
# Boots a test machine and becomes its systemd-nspawn.
# usage: unshare --mount boot.sh NAME IMAGE BUS [PROGRAM FILES [OPTION…]]
#   NAME     the name of the machine, its cgroup, and its directory below /run/iotmonitor-test
#   IMAGE    the root file system, which is not modified: changes are kept in memory only
#   BUS      dbus-daemon or dbus-broker, for the system bus and the users' buses
#   PROGRAM  becomes /usr/bin/iotmonitor
#   FILES    a directory with files to install, which is copied over the image
#   OPTION   is passed to systemd-nspawn
#
# The mounts are in the mount namespace that unshare created, so none is left when this script ends.
set -euo pipefail

name=$1 image=$2 bus=$3 program=${4:-} files=${5:-}
options=("${@:6}")
directory=/run/iotmonitor-test/$name

# Each machine has a separate cgroup, because machines that share one kill each other's units.
join_cgroup() {
    mkdir -p "$1/$name"
    echo $$ > "$1/$name/cgroup.procs"
}
if [[ $(stat --file-system --format=%T /sys/fs/cgroup) == cgroup2fs ]]; then
    join_cgroup /sys/fs/cgroup
else
    join_cgroup /sys/fs/cgroup/unified
    join_cgroup /sys/fs/cgroup/systemd
fi

mkdir -p "$directory"
mount -t tmpfs -o mode=755,size=2g tmpfs "$directory"
mkdir "$directory"/{image,upper,work,root}
mount --bind -o ro "$image" "$directory/image"
mount -t overlay -o "lowerdir=$directory/image,upperdir=$directory/upper,workdir=$directory/work" \
    overlay "$directory/root"
# As by `systemctl enable dbus-broker`, the unit gets the alias by which other units name the bus.
if [[ $bus == dbus-broker ]]; then
    for manager in system user; do
        ln -sf "/usr/lib/systemd/$manager/dbus-broker.service" \
            "$directory/root/etc/systemd/$manager/dbus.service"
    done
fi
binds=()
if [[ -n $program ]]; then
    cp -r --no-preserve=ownership "${files:?is to be copied over the image}/." "$directory/root/"
    binds=(--bind-ro="$program:/usr/bin/iotmonitor")
fi

export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --directory="$directory/root" --machine="$name" --boot \
    --register=no --keep-unit --console=pipe --private-network --link-journal=no \
    --capability=CAP_IPC_LOCK \
    "${binds[@]}" "${options[@]}" < /dev/null
