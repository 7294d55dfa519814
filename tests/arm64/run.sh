#!/bin/bash
# Boots Debian for arm64 with its own kernel and systemd in an emulated machine, installs the package
# there, and lets it do the main job: `trial.sh` beside this script says what. Prints the machine's
# journal, and fails unless everything has happened.
# usage: run.sh PACKAGE.deb (as root)
set -euo pipefail

package=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
cache=$here/../../target/arm64
# Without KVM for arm64, a minute of the machine's takes many.
patience=${PATIENCE:-1500}

for tool in qemu-system-aarch64 qemu-aarch64-static mmdebstrap arch-test mkfs.ext4 cpio; do
    if ! PATH=$PATH:/usr/sbin:/sbin command -v "$tool" > /dev/null; then
        echo "the emulated machine needs $tool: install it with \`make deps-arm64\`" >&2
        exit 1
    fi
done
if ((EUID != 0)); then
    echo "the file system of the emulated machine is made as root" >&2
    exit 1
fi

image=$("$here/build-image.sh" "$cache")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a "$image/root" "$work/root"
mkdir "$work/root/trial"
cp "$package" "$work/root/trial/iotmonitor.deb"
cp "$here/trial.sh" "$work/root/trial/trial"
chmod +x "$work/root/trial/trial"
cat > "$work/root/etc/systemd/system/trial.service" << 'END'
[Unit]
After=mosquitto.service dbus.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/trial/trial
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyAMA0
END
ln -s ../trial.service "$work/root/etc/systemd/system/multi-user.target.wants/trial.service"
truncate --size=2G "$work/disk"
mkfs.ext4 -q -d "$work/root" "$work/disk"
rm -rf "$work/root"

# A Raspberry Pi 4 has such processors.
timeout "$patience" nice -n 10 qemu-system-aarch64 -machine virt -cpu cortex-a72 -smp 2 -m 1024 \
    -nodefaults -no-reboot -display none -serial stdio \
    -kernel "$image/kernel" -initrd "$image/initrd" \
    -append "root=/dev/vda rw console=ttyAMA0 systemd.show_status=true" \
    -drive "if=none,id=disk,format=raw,file=$work/disk" -device virtio-blk-device,drive=disk \
    < /dev/null | tee "$work/console"
if ! grep --quiet "^PASSED" "$work/console"; then
    echo "the trial in the emulated machine failed, see above" >&2
    exit 1
fi
