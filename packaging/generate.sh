#!/bin/bash
# Compiles an example that writes a part of the packages, and runs it.
# usage: generate.sh EXAMPLE ARGUMENT…
#
# IOTMONITOR_GENERATORS is the directory in which it is compiled, if that is not this checkout's own one. Checkouts that
# share a directory compile the dependencies once.
set -euo pipefail
cd "$(dirname "$0")/.."

example=$1
shift
directory=${IOTMONITOR_GENERATORS:-${CARGO_TARGET_DIR:-target}}
mkdir -p "$directory"
# Until the example has ended, no other checkout replaces it.
exec 7> "$directory/generators.lock"
flock 7
packaging/debug-build.sh --quiet --target-dir "$directory" --example "$example"
exec "$directory/debug/examples/$example" "$@"
