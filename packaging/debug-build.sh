#!/bin/bash
# Builds programs and examples without optimization, with the crates that the tests are built with.
# usage: debug-build.sh ARGUMENT OF CARGO-BUILD…
set -euo pipefail
cd "$(dirname "$0")/.."

# Which features crates have depends on what is selected. With the whole workspace and an example, these are the features
# of `cargo test --workspace`, and no crate is compiled twice.
exec "${CARGO:-cargo}" build --locked --workspace --example manual "$@"
