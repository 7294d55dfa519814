#!/bin/bash
# Checks the dependencies against the rules in deny.toml.
# usage: deny.sh CHECK…
#   CHECK  a check of cargo-deny: licenses, bans, sources, or advisories, which needs the network
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deny=$(packaging/tool.sh cargo-deny 0.20.2 --no-default-features)
exec "$cargo_deny" --locked --workspace check --hide-inclusion-graph "$@"
