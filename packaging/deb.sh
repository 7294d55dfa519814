#!/bin/bash
# Packs the release build as target/debian/iotmonitor_VERSION_ARCHITECTURE.deb.
# usage: deb.sh [ARGUMENT OF CARGO-DEB…]
#
# cargo-deb comes from the crate registry, into target/tools: built once, without optimisation,
# for packing takes no time.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.8.0
tools=$PWD/target/tools
if [[ $("$tools/bin/cargo-deb" --version 2> /dev/null) != *"$version"* ]]; then
    cargo install cargo-deb --quiet --locked --version "$version" --profile dev --root "$tools"
fi
# A page of a command that is no more would be packed too.
rm -rf target/manual
cargo run --quiet --locked --example manual -- target/manual
exec "$tools/bin/cargo-deb" --no-build --no-strip --locked "$@"
