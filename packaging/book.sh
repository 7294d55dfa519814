#!/bin/bash
# Writes the pages of docs/ as HTML into target/book.
set -euo pipefail
cd "$(dirname "$0")/.."

mdbook=$(packaging/tool.sh mdbook 0.5.4 --no-default-features)
exec "$mdbook" build docs
