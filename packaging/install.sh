#!/bin/bash
# Installs the release build of a program, its files for systemd, and the files that manual.sh has written.
# usage: install.sh DESTDIR PREFIX [iotmonitor-recorder]
#
# Without a third argument, the program is iotmonitor.
# The files name the programs as /usr/bin/iotmonitor…. With another PREFIX, this path is replaced in them.
# With a DESTDIR, the running system is not affected.
set -euo pipefail

destination=$1 prefix=$2 program=${3:-iotmonitor}
config=$destination/etc/iotmonitor/config.toml
case $program in
    iotmonitor) files=systemd manual=target/manual ;;
    iotmonitor-recorder) files=recorder/systemd manual=target/manual/recorder ;;
    *) echo "install.sh: there is no program $program" >&2; exit 2 ;;
esac

install -D --mode=755 "target/release/$program" "$destination$prefix/bin/$program"
# systemd, D-Bus and sysusers search /usr/lib and /etc, but only partly /usr/local. Therefore these files are
# installed below /usr with any prefix.
while IFS= read -r file; do
    install -D --mode=644 "$files/$file" "$destination/$file"
    sed -i "s|/usr/bin/iotmonitor|$prefix/bin/iotmonitor|g" "$destination/$file"
done < <(cd "$files" && find . -type f -printf '%P\n' | sort)

# zsh searches site-functions. On Debian, it does so only below /usr/local.
completions=$destination$prefix/share/zsh/site-functions
if [[ $prefix == /usr && -e /etc/debian_version ]]; then
    completions=$destination/usr/share/zsh/vendor-completions
fi
share=$destination$prefix/share
install -D --mode=644 --target-directory="$share/man/man1" "$manual"/man/*.1
install -D --mode=644 "$manual/completions/$program" "$share/bash-completion/completions/$program"
install -D --mode=644 "$manual/completions/_$program" "$completions/_$program"
install -D --mode=644 "$manual/completions/$program.fish" "$share/fish/vendor_completions.d/$program.fish"

if [[ $program == iotmonitor ]]; then
    install -D --mode=644 --target-directory="$share/man/man5" "$manual"/man/*.5
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
fi

if [[ -z $destination ]]; then
    systemd-sysusers
    if [[ -d /run/systemd/system ]]; then
        systemctl daemon-reload
        systemctl reload dbus.service || true
        journalctl --update-catalog
        echo "edit $config, then: systemctl enable --now $program"
    fi
fi
