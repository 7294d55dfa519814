# What the demonstrations have in common. They source this file.
# shellcheck shell=bash disable=SC2034

target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
# Processes that end with the demonstration.
followers=()

# The demonstration defines take_down.
clean_up() {
    local status=$?
    trap - EXIT INT TERM
    if ((${#followers[@]})); then
        kill "${followers[@]}" 2> /dev/null || true
        wait "${followers[@]}" 2> /dev/null || true
    fi
    take_down
    rm -rf "$work"
    exit $status
}

say() { printf '\n== %s\n' "$*"; }

# Runs a step, and shows its output only if it fails.
step() {
    local title=$1
    shift
    printf '%s … ' "$title"
    if ! "$@" > "$work/step.log" 2>&1 < /dev/null; then
        echo "failed:"
        cat "$work/step.log"
        exit 1
    fi
    echo "done"
}
