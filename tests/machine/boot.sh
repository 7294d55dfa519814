#!/bin/bash
# Boots a test machine and becomes its systemd-nspawn.
# usage: unshare --mount boot.sh NAME IMAGE BUS [PROGRAM FILES]
#   NAME     of the machine, of its cgroup and of its directory below /run/iotmonitor-test
#   IMAGE    root file system, left as it is: changes go to memory and end with the machine
#   BUS      dbus-daemon or dbus-broker, the system bus and the users'
#   PROGRAM  becomes /usr/bin/iotmonitor
#   FILES    a directory laid out as it installs, copied over the image
#
# The mounts live in the mount namespace that unshare made, so nothing is left when this ends.
set -euo pipefail

name=$1 image=$2 bus=$3 program=${4:-} files=${5:-}
directory=/run/iotmonitor-test/$name

# A cgroup of its own: machines that share one kill each other's units.
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
# What `systemctl enable dbus-broker` does: the unit takes the name that others know the bus by.
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
    "${binds[@]}" < /dev/null
