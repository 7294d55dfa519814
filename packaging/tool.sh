#!/bin/bash
# Prints the path of a tool from the crate registry, after building it into target/tools if it is missing
# there. The build is neither optimized nor for a debugger, because these tools have little to do.
# usage: tool.sh NAME VERSION [ARGUMENT OF CARGO-INSTALL…]
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1 version=$2
shift 2
tools=${IOTMONITOR_TOOLS:-$PWD/target/tools}
if [[ $("$tools/bin/$name" --version 2> /dev/null) != *"$version"* ]]; then
    CARGO_PROFILE_DEV_DEBUG=false \
        cargo install "$name" --quiet --locked --version "$version" --profile dev --root "$tools" "$@"
fi
echo "$tools/bin/$name"
