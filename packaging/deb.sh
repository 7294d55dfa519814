#!/bin/bash
# Packs the release build as target/debian/iotmonitor_VERSION_ARCHITECTURE.deb.
# usage: deb.sh [ARGUMENT OF CARGO-DEB…]
set -euo pipefail
cd "$(dirname "$0")/.."

# These flags are only for the build of the program.
unset CARGO_ENCODED_RUSTFLAGS
cargo_deb=$(packaging/tool.sh cargo-deb 3.8.0)
packaging/manual.sh
cargo run --quiet --locked --example licences -- target/manual/licences-of-others.txt
gzip --best --no-name target/manual/licences-of-others.txt
packaging/changelog.sh > target/manual/changelog
# The files in the package have the date of the version, whenever the package is built.
SOURCE_DATE_EPOCH=$(date --date "$(sed -n '/^ -- /{s/.*>  //p;q}' target/manual/changelog)" +%s)
export SOURCE_DATE_EPOCH
exec "$cargo_deb" --no-build --no-strip --locked "$@"
