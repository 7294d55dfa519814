#!/bin/bash
# Packs the release build as target/debian/iotmonitor_VERSION_ARCHITECTURE.deb, or with
# `--package iotmonitor-recorder` as the package of that name.
# usage: deb.sh [ARGUMENT OF CARGO-DEB…]
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=packaging/deb-assets.sh
source packaging/deb-assets.sh
exec "$cargo_deb" --no-build --no-strip --locked "$@"
