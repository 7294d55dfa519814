#!/bin/bash
# Installs the missing Debian packages that building and testing need, or those for an emulated arm64
# machine.
# usage: deps.sh [arm64]
set -euo pipefail

declare -A package_of=(
    [cc]=gcc [c++]=g++ [mmdebstrap]=mmdebstrap [systemd-nspawn]=systemd-container [mosquitto]=mosquitto
    [mosquitto_pub]=mosquitto-clients [dbus-daemon]=dbus [openssl]=openssl [nsenter]=util-linux
    [losetup]=mount [make]=make [valgrind]=valgrind [lintian]=lintian [shellcheck]=shellcheck
    [python3]=python3 [chromium]=chromium [promtool]=prometheus [nginx]=nginx-light
    [node]=nodejs [npm]=npm [etcd]=etcd-server [etcdctl]=etcd-client [strace]=strace
    [qemu-aarch64-static]=qemu-user-static
)
if [[ ${1:-} == arm64 ]]; then
    package_of=(
        [qemu-system-aarch64]=qemu-system-arm [cpio]=cpio [arch-test]=arch-test
        [mkfs.ext4]=e2fsprogs
    )
fi
missing=()
for tool in "${!package_of[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" > /dev/null || missing+=("${package_of[$tool]}")
done
# Debian's python3 creates no environments with pip by itself.
python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
if ((${#missing[@]} == 0)); then exit 0; fi
echo "installing ${missing[*]}"
if ((EUID != 0)); then
    echo "installing packages needs root: run \`make deps\` as root" >&2
    exit 1
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } \
    > "$log" 2>&1 < /dev/null; then
    cat "$log" >&2
    exit 1
fi
rm -f "$log"
# The tests start their own brokers, proxies and etcd, and need only promtool of Prometheus.
for service in mosquitto prometheus nginx etcd; do
    if [[ " ${missing[*]} " == *" $service"* && -d /run/systemd/system ]]; then
        systemctl disable --now "$service.service"
    fi
done
