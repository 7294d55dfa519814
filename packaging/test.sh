#!/bin/bash
# Runs the tests: those that need neither root nor a container, or all that this machine allows.
# usage: test.sh unit|all [ARGUMENT OF THE TESTS…]
#
# Tests that are left out are listed at the end, with the reason. With REQUIRE=all, the script fails
# instead, before it runs any test.
set -euo pipefail
cd "$(dirname "$0")/.."

which=$1
shift
cargo=${CARGO:-cargo}
arguments=("$@")
left_out=()

is_there() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" > /dev/null; }

# Most tests need these tools.
missing=()
for tool in cc mosquitto mosquitto_pub mosquitto_sub mosquitto_passwd dbus-daemon openssl python3; do
    is_there "$tool" || missing+=("$tool")
done
if ((${#missing[@]})); then
    echo "the tests need ${missing[*]}: run \`make deps\` as root" >&2
    exit 1
fi
# Leaves out a test module that needs an additional tool or privilege.
leave_out() {
    arguments+=(--skip "$1")
    left_out+=("$2")
}
((EUID == 0)) || leave_out as_root "files of other users, which root alone can make"
if ! is_there chromium; then
    leave_out page:: "the status page in a browser (Chromium is not installed)"
    for module in charts:: views:: page_commands:: embedding::; do arguments+=(--skip "$module"); done
elif ! is_there nginx; then
    leave_out below_a_path_of_a_proxy "the status page behind a proxy (nginx is not installed)"
fi
# npm gets axe-core once; after that it is below target/.
is_there npm || leave_out axe_ "the accessibility of the status page (npm is not installed)"
# pip gets DuckDB and DataFusion once.
python3 -c 'import ensurepip' 2> /dev/null ||
    leave_out with_engines:: "queries in DuckDB and DataFusion (Python's venv is not installed)"
is_there promtool || leave_out promtool:: "metrics as Prometheus reads them (promtool is not installed)"
if [[ $which == all ]]; then
    if ! why=$(packaging/container.sh); then
        arguments+=(--skip small_disk::)
        left_out+=("full disks, brokers other than this machine's, the system tests, the faults under a real systemd and those of a cluster ($why)")
    fi
else
    why="unit tests"
    arguments+=(--skip small_disk::)
fi
if [[ ${REQUIRE:-} == all ]] && ((${#left_out[@]})); then
    printf 'not everything can be tested here: %s\n' "${left_out[@]}" >&2
    exit 1
fi

# Says at the end of a long output which tests have failed, and how the report of each begins.
summarize() {
    awk '/^---- .* ----$/ { left = 12; print "" } /^(failures|test result):/ { left = 0 } left-- > 0' "$@"
}

# Each file or folder of tests/ is a test program. Four of them need containers.
programs=()
for main in tests/*.rs tests/*/main.rs */tests/*.rs */tests/*/main.rs; do
    [[ -e $main ]] || continue
    program=$(basename "${main%/main.rs}" .rs)
    case $program in
        system) continue ;;
        faults | failover | brokers) [[ -z $why ]] || continue ;;
    esac
    programs+=(--test "$program")
done

if [[ -z $why ]]; then
    logs=$(mktemp --directory)
    build=
    system=
    trap 'kill -- ${build:+"-$build"} $system 2> /dev/null || true; rm -rf "$logs"' EXIT
    # The release build ends with a link of minutes on one processor, beside which the tests are compiled and
    # begin. Those that need it wait for it.
    setsid make --silent build &
    build=$!
    "$cargo" test --workspace --locked --no-run
    renice --priority 10 --pgrp "$build" > /dev/null 2>&1 || true
    # The system tests take as long as all others together, and mostly wait for their machines. Therefore
    # they run beside the others.
    failed=0
    "$cargo" test --workspace --locked --no-fail-fast --test system -- "${arguments[@]}" > "$logs/system" 2>&1 &
    system=$!
    "$cargo" test --workspace --locked --no-fail-fast --lib --bins "${programs[@]}" -- "${arguments[@]}" 2>&1 |
        tee "$logs/others" || failed=1
    wait "$build" || failed=1
    wait "$system" || failed=1
    cat "$logs/system"
    ((failed == 0)) || summarize "$logs/others" "$logs/system"
    exit $failed
fi
failed=0
"$cargo" test --workspace --locked --no-fail-fast --lib --bins "${programs[@]}" -- "${arguments[@]}" || failed=1
if [[ $which == all ]]; then
    # The schedules are simulated and need no machine.
    "$cargo" test --workspace --locked --test faults -- schedules || failed=1
fi
if ((${#left_out[@]})); then
    printf 'not run: %s\n' "${left_out[@]}"
fi
exit $failed
