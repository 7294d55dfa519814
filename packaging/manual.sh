#!/bin/bash
# Writes the manual pages and the shells' completions into target/manual.
set -euo pipefail
cd "$(dirname "$0")/.."

# Otherwise the page of a removed command would be installed as well.
rm -rf target/manual
cargo run --quiet --locked --example manual -- target/manual
cargo run --quiet --locked --package iotmonitor-recorder --example manual-recorder -- target/manual/recorder
