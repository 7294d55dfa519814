#!/bin/bash
# Builds the root file system of the test machines from Debian's packages, unless it is there.
# usage: build-image.sh CACHE_DIRECTORY [SUITE]; prints the path of the file system.
#
# The release is the host's where that is Debian, so that a program built here finds its C library
# there; SUITE, or else IOTMONITOR_TEST_SUITE, names another one.
set -euo pipefail

cache=$1
packages=systemd,systemd-sysv,dbus,dbus-broker,dbus-user-session,libpam-systemd,polkitd,mosquitto,mosquitto-clients,etcd-server,nftables,procps

host_suite() {
    # shellcheck source=/dev/null
    . /etc/os-release
    if [[ $ID == debian && -n ${VERSION_CODENAME:-} ]]; then echo "$VERSION_CODENAME"; else echo bookworm; fi
}

suite=${2:-${IOTMONITOR_TEST_SUITE:-$(host_suite)}}
key=$( (echo "$suite"; cat "$0") | sha256sum | cut -c1-12)
root=$cache/$suite-$key
log=$cache/build-image.log

# Units that cost time at boot and do nothing in a test.
masked=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    e2scrub_reap.service console-getty.service getty.target systemd-networkd.service
    systemd-resolved.service systemd-timesyncd.service systemd-update-utmp.service
    systemd-journal-catalog-update.service ldconfig.service
)

furnish() {
    local root=$1 unit
    printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
    for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
    mkdir -p "$root/etc/systemd/journald.conf.d"
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nForwardToConsole=no\n' \
        > "$root/etc/systemd/journald.conf.d/test.conf"
    # Its package makes dbus-broker the bus, which is for each test to say.
    rm -f "$root"/etc/systemd/{system,user}/dbus.service
    # It is for the tests of clusters alone to start.
    rm -f "$root"/etc/systemd/system/{multi-user.target.wants/etcd,etcd2}.service
    # The package's configuration logs to a file: the journal shows more when a test fails.
    sed -i 's/^log_dest .*/log_dest stdout/' "$root/etc/mosquitto/mosquitto.conf"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
}

mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
if [[ ! -d $root ]]; then
    rm -rf "$cache"/*.partial
    mkdir "$root.partial"
    # tar stops at the end of the archive, and mmdebstrap fails if nobody reads what it writes behind that.
    if ! mmdebstrap --variant=minbase --include="$packages" "$suite" - 2> "$log" \
        | { tar --extract --directory "$root.partial" && cat > /dev/null; }; then
        cat "$log" >&2
        echo "the image of the test machines could not be built from Debian's packages, see above" >&2
        exit 1
    fi
    furnish "$root.partial"
    mv "$root.partial" "$root"
fi
echo "$root"
