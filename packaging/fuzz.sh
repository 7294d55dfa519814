#!/bin/bash
# Runs each target of fuzz/ for some seconds, starting from the inputs in fuzz/corpus.
# usage: fuzz.sh [SECONDS]
#
# Without a sanitizer, cargo-fuzz works with the stable toolchain. The targets look for panics, broken rules
# and unbounded memory use. Failing inputs are stored in fuzz/artifacts, and new interesting inputs in
# target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
cargo_fuzz=$(packaging/tool.sh cargo-fuzz 0.13.2)
fuzz() {
    "$cargo_fuzz" "$@"
}
options=(--fuzz-dir fuzz --sanitizer none --target-dir target/fuzz)
fuzz build "${options[@]}"
for target in $(fuzz list --fuzz-dir fuzz); do
    echo "$target, for $seconds s"
    mkdir -p "target/fuzz/corpus/$target"
    log=$(mktemp)
    if ! fuzz run "${options[@]}" "$target" "target/fuzz/corpus/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=512 -timeout=5 -print_final_stats=1 \
        > "$log" 2>&1; then
        tail -n 60 "$log" >&2
        exit 1
    fi
    grep -E "number_of_executed_units|peak_rss_mb" "$log"
    rm -f "$log"
done
