# Machines of the demonstrations: containers with a real systemd. Other scripts of demonstrations source this file.
# shellcheck shell=bash disable=SC2154

scripts=tests/machine
# The machines by their names: systemd-nspawn, and PID 1 as seen from outside.
declare -A nspawn_of init_of

# Runs a command in a machine.
inside_of() {
    local machine=$1
    shift
    nsenter --target "${init_of[$machine]}" --all -- env -i LANG=C.UTF-8 HOME=/root \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# Starts machines with these names, each with the options of systemd-nspawn that options_of prints, and
# waits until all are up. They are children of this shell, so it is not run by `step`.
boot_machines() {
    local image machine options
    image=$($scripts/build-image.sh "$target/system-image")
    $scripts/remove.sh --stale
    mkdir -p /run/iotmonitor-test
    for machine in "$@"; do
        mapfile -t options < <(options_of "$machine")
        setsid setpriv --pdeathsig KILL unshare --mount $scripts/boot.sh "iotmonitor-test-$$-$machine" \
            "$image" dbus-daemon "$PWD/$target/debug/iotmonitor" "$PWD/systemd" "${options[@]}" \
            > "$work/console-$machine" 2>&1 &
        nspawn_of[$machine]=$!
    done
    for machine in "$@"; do await_machine "$machine"; done
}

await_machine() {
    local machine=$1 nspawn=${nspawn_of[$1]} init
    for _ in {1..300}; do
        # The list does not end with a newline, so read fails although it has read the list. If the machine
        # has already ended, there is no list.
        init=
        read -r init _ 2> /dev/null < "/proc/$nspawn/task/$nspawn/children" || true
        init_of[$machine]=$init
        if [[ -n $init && $(inside_of "$machine" systemctl is-system-running --wait 2>&1) =~ running|degraded ]]
        then
            inside_of "$machine" systemd-sysusers
            inside_of "$machine" journalctl --update-catalog
            return
        fi
        kill -0 "$nspawn" 2> /dev/null || break
        sleep 0.1
    done
    cat "$work/console-$machine"
    return 1
}

kill_machines() {
    local machine
    for machine in "${!nspawn_of[@]}"; do
        kill -9 "${nspawn_of[$machine]}" 2> /dev/null || true
        wait "${nspawn_of[$machine]}" 2> /dev/null || true
        $scripts/remove.sh "iotmonitor-test-$$-$machine"
    done
}
