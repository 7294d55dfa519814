#!/bin/bash
# Removes the files that install.sh installed, after stopping the monitors, the agents and the recorder.
# usage: uninstall.sh DESTDIR PREFIX
set -euo pipefail

destination=$1 prefix=$2
units=(iotmonitor-recorder.service iotmonitor.service 'iotmonitor@*.service' iotmonitor.slice 'iotmonitor-*agent-*.service')

if [[ -z $destination && -d /run/systemd/system ]]; then
    # For a template, this disables all its instances.
    systemctl disable iotmonitor.service iotmonitor@.service || true
    systemctl disable --now iotmonitor-alive.timer || true
    if systemctl cat iotmonitor-recorder.service > /dev/null 2>&1; then
        systemctl disable --now iotmonitor-recorder.service || true
    fi
    systemctl stop iotmonitor.service 'iotmonitor@*.service' || true
    # This includes agents that a removed instance has left running.
    systemctl list-units --plain --no-legend --state=active,activating,reloading \
        'iotmonitor-*agent-*.service' | sed 's/^\([^ ]*\).*/stopping the agent \1/'
    systemctl stop iotmonitor.slice || true
fi
rm -f "$destination$prefix"/bin/iotmonitor{,-recorder}
if [[ -z $destination ]]; then rm -rf /run/iotmonitor /run/iotmonitor@*; fi
(cd systemd && find . ../recorder/systemd -type f -printf '%P\n') | while IFS= read -r file; do
    rm -f "$destination/$file"
done
rmdir --ignore-fail-on-non-empty "$destination"/usr/share/iotmonitor \
    "$destination"/usr/share/doc/iotmonitor{/examples,} \
    "$destination"/usr/lib/systemd/system/iotmonitor{,@}.service.d 2> /dev/null || true
share=$destination$prefix/share
rm -f "$share"/man/man1/iotmonitor.1 "$share"/man/man1/iotmonitor-*.1 \
    "$share"/man/man5/iotmonitor.toml.5 "$share"/bash-completion/completions/iotmonitor{,-recorder} \
    "$share"/zsh/{site-functions,vendor-completions}/_iotmonitor{,-recorder} \
    "$share"/fish/vendor_completions.d/iotmonitor{,-recorder}.fish
if [[ -z $destination && -d /run/systemd/system ]]; then
    systemctl daemon-reload
    # Failed units would stay in the list of units until they are reset.
    systemctl reset-failed "${units[@]}" 2> /dev/null || true
    systemctl reload dbus.service || true
    journalctl --update-catalog
fi
echo "the configuration in /etc/iotmonitor and what is stored below /var/lib stay"
