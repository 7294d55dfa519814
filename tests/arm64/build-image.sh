#!/bin/bash
# Builds the root file system, the kernel and the initial RAM disk of an arm64 machine from Debian's
# packages, unless they are there.
# usage: build-image.sh CACHE_DIRECTORY; prints the directory that has `root`, `kernel` and `initrd`.
#
# The packages' scripts run in qemu-user, for which the kernel has to know that arm64 programs run with
# it (binfmt_misc). This is arranged until the end of this script, where it is not yet.
set -euo pipefail

cache=$1
suite=bookworm
mirror=http://deb.debian.org
packages=systemd,systemd-sysv,dbus,mosquitto,mosquitto-clients,procps
image=$cache/arm64-$(sha256sum < "$0" | cut -c1-12)
log=$cache/build-image.log

# Units that only take time in an emulated machine.
masked=(
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    e2scrub_reap.service getty.target systemd-timesyncd.service systemd-networkd.service
)

binfmt=/proc/sys/fs/binfmt_misc
emulator=/usr/bin/qemu-aarch64-static
register() {
    [[ -e $binfmt/register ]] || mount -t binfmt_misc binfmt_misc "$binfmt"
    if ! grep --quiet --no-messages "interpreter .*qemu-aarch64" "$binfmt"/*aarch64*; then
        # An ELF file (elf(5)) of 64 bits, little-endian, for EM_AARCH64. `F` opens the emulator now, so
        # that it need not be in the file system.
        printf '%s' ':iotmonitor-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$emulator"':OCF' > "$binfmt/register"
        trap 'echo -1 > "$binfmt/iotmonitor-aarch64"' EXIT
    fi
}

# The kernel as its package has it, unpacked and not configured: its scripts would spend many minutes on
# an initial RAM disk with everything.
# shellcheck disable=SC2016
add_kernel='
    cd "$1"
    export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
    kernel=$(apt-cache depends linux-image-cloud-arm64:arm64 | sed -n "s/.*Depends: \(linux-image-[0-9][^: ]*\).*/\1/p")
    apt-get download "$kernel:arm64" busybox-static:arm64
    mkdir opt/kernel opt/busybox
    dpkg-deb --extract linux-image-*.deb opt/kernel
    dpkg-deb --extract busybox-static_*.deb opt/busybox
    # Beside it, /lib would be replaced by a directory.
    mv opt/kernel/lib/modules usr/lib/
    rm ./*.deb'

# A RAM disk that finds the disk and starts systemd from it. The modules are in the order in which they need
# each other.
write_initrd() {
    local root=$1 initrd=$2 tree module
    tree=$(mktemp -d)
    mkdir "$tree"/{bin,dev,proc,root,modules}
    cp "$root/opt/busybox/bin/busybox" "$tree/bin/busybox"
    ln -s busybox "$tree/bin/sh"
    for module in virtio_ring virtio virtio_mmio virtio_blk; do
        find "$root/usr/lib/modules" -name "$module.ko" -exec cp {} "$tree/modules/" \;
    done
    cat > "$tree/init" << 'END'
#!/bin/sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in virtio_ring virtio virtio_mmio virtio_blk; do
    /bin/busybox insmod "/modules/$module.ko"
done
/bin/busybox mount -t ext4 -o rw /dev/vda /root || /bin/busybox poweroff -f
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
END
    chmod +x "$tree/init"
    (cd "$tree" && find . | cpio --quiet --create --format=newc --owner=0:0) | gzip > "$initrd"
    rm -rf "$tree"
}

mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
if [[ ! -d $image ]]; then
    rm -rf "$cache"/*.partial
    mkdir "$image.partial"
    register
    if ! mmdebstrap --architectures=arm64 --variant=minbase --include="$packages" \
        --customize-hook="$add_kernel" "$suite" "$image.partial/root" \
        "deb $mirror/debian $suite main" "deb $mirror/debian-security $suite-security main" \
        2> "$log" < /dev/null; then
        cat "$log" >&2
        echo "the arm64 machine could not be built from Debian's packages, see above" >&2
        exit 1
    fi
    root=$image.partial/root
    cp "$root"/opt/kernel/boot/vmlinuz-* "$image.partial/kernel"
    write_initrd "$root" "$image.partial/initrd"
    printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
    : > "$root/etc/fstab"
    for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
    rm -rf "$root"/opt/{kernel,busybox} "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* \
        "$root"/usr/share/{doc,man,locale}
    mv "$image.partial" "$image"
fi
echo "$image"
