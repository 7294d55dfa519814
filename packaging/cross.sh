#!/bin/bash
# Packs target/debian/iotmonitor_VERSION_ARCHITECTURE.deb for another architecture, with Debian's own
# compilers for it in a file system of their own, which is unpacked from Debian's packages once. With `check`,
# packs a build without optimization into target/cross/unoptimized instead, and runs its program. With `test`,
# runs the unit tests of the core and the store for that architecture, and for i386 those of `tests/store` as well.
# qemu-user emulates what the processor does not run itself.
# usage: cross.sh arm64|armhf [check], or cross.sh arm64|i386 test (as root)
#
# The release is Debian 12, so that the program runs with the C library of each later one.
set -euo pipefail
cd "$(dirname "$0")/.."

architecture=${1:-}
work=${2:-package}
# rustc-web is the compiler that Debian keeps current for its browsers. arm64's standard library comes from the
# package; that of 32 bits is built from its source, which is a package of all architectures. Thus the security archive,
# whose index of armhf apt refused, is not needed for 32 bits.
case $architecture-$work in
    arm64-package | arm64-check | arm64-test)
        target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu emulator=qemu-aarch64-static
        library=libstd-rust-web-dev:arm64 secure=amd64,arm64 flags=
        ;;
    armhf-package | armhf-check)
        target=armv7-unknown-linux-gnueabihf tools=arm-linux-gnueabihf emulator=qemu-arm-static
        library=rust-web-src secure=amd64 flags=-Zbuild-std=std,panic_abort
        ;;
    i386-test)
        # Processors of amd64 run it themselves.
        target=i686-unknown-linux-gnu tools=i686-linux-gnu emulator=
        library=rust-web-src secure=amd64 flags=-Zbuild-std=std,panic_abort
        ;;
    *)
        sed -n 's/^# usage:/usage:/p' "$0" >&2
        exit 2
        ;;
esac
if [[ $work != package && -n $emulator ]] && ! command -v "$emulator" > /dev/null; then
    echo "programs for $architecture need $emulator to run: install it with \`make deps\`" >&2
    exit 1
fi
if ((EUID != 0)); then
    echo "a program for $architecture is built in a file system of its own, which needs root" >&2
    exit 1
fi

suite=bookworm
mirror=http://deb.debian.org
# These are unpacked and not installed, which takes less than half of the time. What configures them is not needed.
packages=dash,coreutils,grep,sed,mount,dpkg-dev,rustc-web,cargo-web,gcc,libc6-dev,gcc-$tools,libc6-dev-$architecture-cross
# cargo-deb finds in dpkg's database which C library the program needs. Nothing else of the architecture is
# unpacked, such as the compiler's own libraries, on which the package with the standard library depends.
foreign="libc6:$architecture libgcc-s1:$architecture $library"
# dpkg-shlibdeps looks for them below /usr before it finds those of the cross compiler, which belong to no package.
# shellcheck disable=SC2016
unpack_foreign='
    mkdir -p "$1/foreign" "$1/iotmonitor" "$1/cargo" "$1/proc" "$1/usr/lib/'$tools'"
    ln -s "../usr/lib/'$tools'" "$1/lib/'$tools'"
    cd "$1/foreign"
    export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
    apt-get --quiet=2 --option APT::Sandbox::User=root download '$foreign'
    dpkg --root="$1" --force-depends --path-exclude="/usr/src/*/compiler/*" --path-exclude="*/src/tools/*" \
        --unpack ./*.deb
    rm -r "$1/foreign"'
cache=target/cross
root=$cache/$architecture-$(echo "$suite $packages $unpack_foreign" | sha256sum | cut -c1-12)

mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
if [[ ! -d $root ]]; then
    rm -rf "$cache"/*.partial
    log=$cache/root.log
    if ! mmdebstrap --variant=extract --architectures="amd64,$architecture" --include="$packages" \
        --aptopt='Acquire::Languages "none"' --extract-hook="$unpack_foreign" \
        "$suite" "$root.partial" "deb [arch=amd64,$architecture] $mirror/debian $suite main" \
        "deb [arch=$secure] $mirror/debian-security $suite-security main" 2> "$log"; then
        cat "$log" >&2
        echo "the compilers for $architecture could not be unpacked from Debian's packages, see above" >&2
        exit 1
    fi
    mv "$root.partial" "$root"
fi
exec 9>&-

if [[ $flags ]]; then
    # The crates that the standard library needs.
    RUSTC_BOOTSTRAP=1 "${CARGO:-cargo}" fetch --quiet --locked --target "$target" \
        --manifest-path "$root/usr/lib/rustlib/src/rust/library/Cargo.toml"
fi
if [[ $work != package && -n $emulator ]]; then cp "$(command -v "$emulator")" "$root/usr/bin/"; fi
if [[ $work == test ]]; then
    "${CARGO:-cargo}" fetch --quiet --locked
    # A debug build of what is tested, where nothing else is.
    test="cargo test $flags --locked --target $target"
    command="$test -p iotmonitor-core --lib
        $test -p iotmonitor --lib -- store:: lmdb::"
    # Tests that start themselves as another process need a processor that runs them.
    if [[ -z $emulator ]]; then
        command+="
        $test -p iotmonitor --test store"
    fi
else
    # shellcheck source=packaging/deb-assets.sh
    source packaging/deb-assets.sh
    "${CARGO:-cargo}" fetch --quiet --locked --target "$target"
    cargo_deb=/iotmonitor${cargo_deb#"$PWD"}
    profile=release output=target/debian compression=
    if [[ $work == check ]]; then profile=unoptimized output=$cache/unoptimized compression=--fast; fi
    command="cargo build $flags --profile $profile --locked --target $target
        package=\$($cargo_deb --no-build --no-strip --locked --profile $profile $compression \\
            --target $target --output $output/)
        if ! dpkg-deb --field \$package Depends | grep --quiet libc6; then
            echo \"the C library that the program needs was not found\" >&2
            exit 1
        fi
        echo \$package"
    if [[ $work == check ]]; then
        command+="
        rm -rf $output/$architecture
        dpkg-deb --extract \$package $output/$architecture
        $emulator $output/$architecture/usr/bin/iotmonitor --version
        $emulator $output/$architecture/usr/bin/iotmonitor check $output/$architecture/etc/iotmonitor/config.toml"
    fi
fi

upper=${target^^}
upper=${upper//-/_}
environment=(
    PATH=/usr/bin:/bin HOME=/root CARGO_HOME=/cargo CARGO_NET_OFFLINE=true CARGO_TARGET_DIR=target/cross/build
    "SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}"
    # What would be configured as cc.
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=gcc CC_x86_64_unknown_linux_gnu=gcc
    "CC_${target//-/_}=$tools-gcc" "CARGO_TARGET_${upper}_LINKER=$tools-gcc"
)
if [[ $emulator ]]; then environment+=("CARGO_TARGET_${upper}_RUNNER=$emulator"); fi
# The tests of power cuts compile what records a program.
if [[ $work == test ]]; then environment+=("CC=$tools-gcc"); fi
# Debian's compiler is a stable one, which builds its own library only if it is told so.
if [[ $flags ]]; then environment+=(RUSTC_BOOTSTRAP=1); fi

# The file system has neither the network nor more of the host than the sources and the crates.
export root
# shellcheck disable=SC2016
exec unshare --mount --net bash -euo pipefail -c '
    # With what is mounted below it, such as a separate target.
    mount --rbind . "$root/iotmonitor"
    mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$root/cargo"
    mount -t proc proc "$root/proc"
    exec chroot "$root" env --ignore-environment --chdir=/iotmonitor "$@"
' cross "${environment[@]}" sh -ec "$command"
