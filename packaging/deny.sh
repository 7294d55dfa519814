#!/bin/bash
# Checks what comes in with the dependencies, by deny.toml.
# usage: deny.sh CHECK…    of cargo-deny: licenses, bans, sources; advisories needs the network
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deny=$(packaging/tool.sh cargo-deny 0.20.2 --no-default-features)
exec "$cargo_deny" --locked check --hide-inclusion-graph "$@"
