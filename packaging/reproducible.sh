#!/bin/bash
# Builds the packages a second time, in another directory, and compares them byte by byte with those in
# target/debian.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
second="$work/second place"
# The tools are shared, because they are not part of the package.
mkdir -p target/tools "$second"
export IOTMONITOR_TOOLS=$PWD/target/tools
first=$(realpath "${CARGO_TARGET_DIR:-target}")/debian
unset CARGO_TARGET_DIR MAKEFLAGS
git ls-files -z | xargs -0 cp --parents --target-directory "$second"
make --silent --directory "$second" deb > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
sha256sum "$first"/*.deb "$second"/target/debian/*.deb
for package in "$second"/target/debian/*.deb; do
    cmp "$first/$(basename "$package")" "$package"
done
