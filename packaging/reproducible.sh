#!/bin/bash
# Builds the packages here and in another directory at the same time, and compares them byte by byte.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'jobs -p | xargs --no-run-if-empty kill; rm -rf "$work"' EXIT
second="$work/second place"
# What makes the packages and is no part of them is compiled once.
mkdir -p target/tools "${CARGO_TARGET_DIR:-target}" "$second"
target=$(realpath "${CARGO_TARGET_DIR:-target}")
export IOTMONITOR_TOOLS=$PWD/target/tools IOTMONITOR_GENERATORS=$target
git ls-files -z | xargs -0 cp --parents --target-directory "$second"
make --silent deb > "$work/first.log" 2>&1 &
here=$!
first=$target/debian
unset CARGO_TARGET_DIR
make --silent --directory "$second" deb > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
wait "$here" || { cat "$work/first.log"; exit 1; }
sha256sum "$first"/*.deb "$second"/target/debian/*.deb
for package in "$second"/target/debian/*.deb; do
    cmp "$first/$(basename "$package")" "$package"
done
