#!/bin/bash
# Installs the release build and the files of systemd/.
# usage: install.sh DESTDIR PREFIX
#
# The files name the program as /usr/bin/iotmonitor; with another PREFIX their text is adapted.
# With a DESTDIR nothing of the running system is touched.
set -euo pipefail

destination=$1 prefix=$2
config=$destination/etc/iotmonitor/config.toml

install -D --mode=755 target/release/iotmonitor "$destination$prefix/bin/iotmonitor"
# systemd, D-Bus and sysusers look below /usr/lib or /etc, and below /usr/local only in part: so the
# files lie below /usr whatever the prefix.
while IFS= read -r file; do
    install -D --mode=644 "systemd/$file" "$destination/$file"
    sed -i "s|/usr/bin/iotmonitor|$prefix/bin/iotmonitor|g" "$destination/$file"
done < <(cd systemd && find . -type f -printf '%P\n' | sort)

if [[ -e $config ]]; then
    echo "kept $config"
elif [[ -e config.toml ]]; then
    install -D --mode=600 config.toml "$config"
fi

if [[ -z $destination ]]; then
    systemd-sysusers
    if [[ -d /run/systemd/system ]]; then
        systemctl daemon-reload
        systemctl reload dbus.service || true
        journalctl --update-catalog
        echo "edit $config, then: systemctl enable --now iotmonitor"
    fi
fi
