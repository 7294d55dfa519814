#!/bin/bash
# Removes what install.sh put there, after stopping the service and the agents.
# usage: uninstall.sh DESTDIR PREFIX
set -euo pipefail

destination=$1 prefix=$2

if [[ -z $destination && -d /run/systemd/system ]]; then
    systemctl disable --now iotmonitor.service || true
    systemctl stop 'iotmonitor@*.service'
    systemctl stop iotmonitor.slice || true
fi
rm -f "$destination$prefix/bin/iotmonitor"
if [[ -z $destination ]]; then rm -rf /run/iotmonitor /run/iotmonitor@*; fi
(cd systemd && find . -type f -printf '%P\n') | while IFS= read -r file; do
    rm -f "$destination/$file"
done
if [[ -z $destination && -d /run/systemd/system ]]; then
    systemctl daemon-reload
    systemctl reload dbus.service || true
    journalctl --update-catalog
fi
echo "the configuration in /etc/iotmonitor and the store in /var/lib/iotmonitor stay"
