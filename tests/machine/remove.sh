#!/bin/bash
# Kills the remaining processes of test machines and removes their cgroups.
# usage: remove.sh NAME…     removes these machines
#        remove.sh --stale   removes those whose owner, the process in their name, has ended
set -euo pipefail

cgroups() {
    local root
    for root in /sys/fs/cgroup /sys/fs/cgroup/{unified,systemd,pids}; do
        if [[ -e $root/cgroup.procs && -d $root/$1 ]]; then echo "$root/$1"; fi
    done
}

kill_all() {
    find "$1" -name cgroup.procs -exec cat {} + 2> /dev/null | sort -u | xargs -r kill -9 2> /dev/null
}

remove() {
    local name=$1 cgroup
    for cgroup in $(cgroups "$name"); do
        for _ in {1..200}; do
            kill_all "$cgroup" || true
            find "$cgroup" -depth -type d -exec rmdir {} + 2> /dev/null || true
            [[ -d $cgroup ]] || break
            sleep 0.05
        done
    done
    rm -f "/run/iotmonitor-test/$name.console"
    rmdir "/run/iotmonitor-test/$name" 2> /dev/null || true
}

stale() {
    local path name owner
    for path in /run/iotmonitor-test/*; do
        name=$(basename "$path")
        name=${name%.console}
        [[ $name =~ ^iotmonitor-test-([0-9]+)- ]] || continue
        owner=${BASH_REMATCH[1]}
        [[ -d /proc/$owner ]] || echo "$name"
    done | sort -u
}

if [[ ${1:-} == --stale ]]; then
    for name in $(stale); do remove "$name"; done
else
    for name in "$@"; do remove "$name"; done
fi
