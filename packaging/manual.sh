#!/bin/bash
# Writes the manual pages and the shells' completions into target/manual.
set -euo pipefail
cd "$(dirname "$0")/.."

# Otherwise the page of a removed command would be installed as well.
rm -rf target/manual
packaging/generate.sh manual target/manual
packaging/generate.sh manual-recorder target/manual/recorder
