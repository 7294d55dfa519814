#!/bin/bash
# Builds a root file system with brokers of Debian's, unless it is there.
# usage: image.sh CACHE_DIRECTORY SUITE PACKAGE,…; prints the path of the file system.
set -euo pipefail

cache=$1 suite=$2 packages=$3
key=$( (echo "$suite $packages"; cat "$0") | sha256sum | cut -c1-12)
root=$cache/$suite-$key
log=$cache/$suite.log

mkdir -p "$cache"
exec 9> "$cache/$suite.lock"
flock 9
if [[ ! -d $root ]]; then
    rm -rf "$cache/$suite"-*
    mkdir "$root.partial"
    # tar stops at the end of the archive, and mmdebstrap fails if nobody reads what it writes behind that.
    if ! mmdebstrap --variant=minbase --include="$packages" "$suite" - 2> "$log" \
        | { tar --extract --directory "$root.partial" && cat > /dev/null; }; then
        cat "$log" >&2
        echo "the brokers could not be fetched from Debian, see above" >&2
        exit 1
    fi
    printf '127.0.0.1 localhost\n' > "$root.partial/etc/hosts"
    rm -rf "$root.partial"/var/cache/apt/* "$root.partial"/var/lib/apt/lists/*
    mv "$root.partial" "$root"
fi
echo "$root"
