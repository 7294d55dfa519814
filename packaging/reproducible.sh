#!/bin/bash
# Builds the package twice, in two directories, and compares the packages byte by byte.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The tools are shared, because they are not part of the package.
mkdir -p target/tools
export IOTMONITOR_TOOLS=$PWD/target/tools
unset CARGO_TARGET_DIR
for place in first "second place"; do
    mkdir "$work/$place"
    git ls-files -z | xargs -0 cp --parents --target-directory "$work/$place"
    make --silent --directory "$work/$place" deb > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    mkdir "$work/packages of $place"
    mv "$work/$place"/target/debian/*.deb "$work/packages of $place"
    rm -rf "${work:?}/$place"
done
sha256sum "$work"/*/*.deb
diff --brief --recursive "$work/packages of first" "$work/packages of second place"
