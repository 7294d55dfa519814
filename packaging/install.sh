#!/bin/bash
# Installs the release build, the files of systemd/, and the files that manual.sh has written.
# usage: install.sh DESTDIR PREFIX
#
# The files name the program as /usr/bin/iotmonitor. With another PREFIX, this path is replaced in them.
# With a DESTDIR, the running system is not affected.
set -euo pipefail

destination=$1 prefix=$2
config=$destination/etc/iotmonitor/config.toml

install -D --mode=755 target/release/iotmonitor "$destination$prefix/bin/iotmonitor"
# systemd, D-Bus and sysusers search /usr/lib and /etc, but only partly /usr/local. Therefore these files are
# installed below /usr with any prefix.
while IFS= read -r file; do
    install -D --mode=644 "systemd/$file" "$destination/$file"
    sed -i "s|/usr/bin/iotmonitor|$prefix/bin/iotmonitor|g" "$destination/$file"
done < <(cd systemd && find . -type f -printf '%P\n' | sort)

# zsh searches site-functions. On Debian, it does so only below /usr/local.
completions=$destination$prefix/share/zsh/site-functions
if [[ $prefix == /usr && -e /etc/debian_version ]]; then
    completions=$destination/usr/share/zsh/vendor-completions
fi
share=$destination$prefix/share
install -D --mode=644 --target-directory="$share/man/man1" target/manual/man/*.1
install -D --mode=644 --target-directory="$share/man/man5" target/manual/man/*.5
install -D --mode=644 target/manual/completions/iotmonitor \
    "$share/bash-completion/completions/iotmonitor"
install -D --mode=644 target/manual/completions/_iotmonitor "$completions/_iotmonitor"
install -D --mode=644 target/manual/completions/iotmonitor.fish \
    "$share/fish/vendor_completions.d/iotmonitor.fish"

if [[ -e $config ]]; then
    echo "kept $config"
elif [[ -e config.toml ]]; then
    install -D --mode=600 config.toml "$config"
fi
for file in notify.conf alive.conf; do
    if [[ ! -e $(dirname "$config")/$file ]]; then
        install -D --mode=600 "packaging/etc/$file" "$(dirname "$config")/$file"
    fi
done

if [[ -z $destination ]]; then
    systemd-sysusers
    if [[ -d /run/systemd/system ]]; then
        systemctl daemon-reload
        systemctl reload dbus.service || true
        journalctl --update-catalog
        echo "edit $config, then: systemctl enable --now iotmonitor"
    fi
fi
