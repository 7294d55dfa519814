#!/bin/bash
# Packs target/debian/iotmonitor_VERSION_ARCHITECTURE.deb for another architecture, with Debian's own
# compilers for it in a file system of their own, which is built from Debian's packages once. With `test`,
# runs the unit tests of the core and the store for that architecture instead, emulated by qemu-user.
# usage: cross.sh arm64 [test]   (as root)
#
# The release is Debian 12, so that the program runs with the C library of each later one.
set -euo pipefail
cd "$(dirname "$0")/.."

architecture=${1:-}
work=${2:-package}
case $architecture in
    arm64) target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu ;;
    *)
        echo "usage: cross.sh arm64 [test]" >&2
        exit 2
        ;;
esac
emulator=qemu-${target%%-*}-static
if [[ $work == test ]] && ! command -v "$emulator" > /dev/null; then
    echo "tests for $architecture need $emulator: install it with \`make deps-arm64\`" >&2
    exit 1
fi
if ((EUID != 0)); then
    echo "a package for $architecture is built in a file system of its own, which needs root" >&2
    exit 1
fi

suite=bookworm
mirror=http://deb.debian.org
# rustc-web is the compiler that Debian keeps current for its browsers. With the library's dependencies,
# cargo-deb finds the C library that the program needs.
packages=rustc-web,cargo-web,gcc,libc6-dev,dpkg-dev,gcc-$tools,libc6-dev-$architecture-cross,libstd-rust-web-dev:$architecture
cache=target/cross
root=$cache/$architecture-$(echo "$suite $packages" | sha256sum | cut -c1-12)

mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
if [[ ! -d $root ]]; then
    rm -rf "$cache"/*.partial
    log=$cache/root.log
    if ! mmdebstrap --variant=apt --architectures="amd64,$architecture" --include="$packages" \
        "$suite" "$root.partial" "deb $mirror/debian $suite main" \
        "deb $mirror/debian-security $suite-security main" 2> "$log"; then
        cat "$log" >&2
        echo "the compilers for $architecture could not be installed from Debian's packages, see above" >&2
        exit 1
    fi
    rm -rf "$root.partial"/var/cache/apt/* "$root.partial"/usr/share/{doc,man,locale}
    mkdir "$root.partial/iotmonitor" "$root.partial/cargo"
    mv "$root.partial" "$root"
fi

if [[ $work == test ]]; then
    "${CARGO:-cargo}" fetch --quiet --locked
    cp "$(command -v "$emulator")" "$root/usr/bin/"
    # A debug build of what is tested, where nothing else is.
    command="cargo test --locked --target $target -p iotmonitor-core --lib
        exec cargo test --locked --target $target -p iotmonitor --lib -- store:: lmdb::"
else
    # shellcheck source=packaging/deb-assets.sh
    source packaging/deb-assets.sh
    "${CARGO:-cargo}" fetch --quiet --locked --target "$target"
    cargo_deb=/iotmonitor${cargo_deb#"$PWD"}
    command="cargo build --release --locked --target $target
        exec $cargo_deb --no-build --no-strip --locked --target $target --output target/debian/"
fi

# The file system has neither the network nor more of the host than the sources and the crates.
export root target tools emulator command
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
# shellcheck disable=SC2016
exec unshare --mount --net bash -euo pipefail -c '
    mount --bind . "$root/iotmonitor"
    mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$root/cargo"
    mount -t proc proc "$root/proc"
    upper=${target^^}
    exec chroot "$root" env --ignore-environment --chdir=/iotmonitor PATH=/usr/bin:/bin HOME=/root \
        CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=target/cross/build \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
        "CC_${target//-/_}=$tools-gcc" "CARGO_TARGET_${upper//-/_}_LINKER=$tools-gcc" \
        "CARGO_TARGET_${upper//-/_}_RUNNER=$emulator -L /usr/$tools" sh -ec "$command"
'
