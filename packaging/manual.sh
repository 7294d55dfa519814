#!/bin/bash
# Writes the manual pages and the shells' completions into target/manual.
set -euo pipefail
cd "$(dirname "$0")/.."

# A page of a command that is no more would be installed too.
rm -rf target/manual
cargo run --quiet --locked --example manual -- target/manual
