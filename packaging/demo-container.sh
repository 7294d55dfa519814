# The demonstration in a separate container with a real systemd. demo.sh sources this file.
# shellcheck shell=bash disable=SC2154

name=iotmonitor-test-$$-demo
scripts=tests/machine
nspawn=
init=

inside() {
    nsenter --target "$init" --all -- env -i LANG=C.UTF-8 HOME=/root \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

prepare() {
    step "packages" packaging/deps.sh
    step "building iotmonitor" "${CARGO:-cargo}" build --locked
    # The machine is booted without `step`, because it has to be a child of this shell.
    printf 'booting a Debian with systemd and mosquitto (the first time its image is built) … '
    boot
    echo "done"
}

boot() {
    image=$($scripts/build-image.sh "$target/system-image")
    $scripts/remove.sh --stale
    mkdir -p /run/iotmonitor-test
    setsid setpriv --pdeathsig KILL unshare --mount $scripts/boot.sh \
        "$name" "$image" dbus-daemon "$PWD/$target/debug/iotmonitor" "$PWD/systemd" > "$work/console" 2>&1 &
    nspawn=$!
    for _ in {1..300}; do
        # The list does not end with a newline, so read fails although it has read the list. If the machine
        # has already ended, there is no list.
        init=
        read -r init _ 2> /dev/null < "/proc/$nspawn/task/$nspawn/children" || true
        if [[ -n $init && $(inside systemctl is-system-running --wait 2>&1) =~ running|degraded ]]
        then
            inside systemd-sysusers
            inside journalctl --update-catalog
            return
        fi
        kill -0 "$nspawn" 2> /dev/null || break
        sleep 0.1
    done
    cat "$work/console"
    return 1
}

take_down() {
    if [[ -n $nspawn ]]; then
        kill -9 "$nspawn" 2> /dev/null || true
        wait "$nspawn" 2> /dev/null || true
        $scripts/remove.sh "$name"
    fi
}

write_config() {
    cat >> "$work/config.toml" <<'END'

[agent_demo]
exec = "while sleep 1; do mosquitto_pub -t home/agents/demo/alive -m $$; done"
watchTopics = "home/agents/demo/#"
END
    inside sh -c 'mkdir -p /etc/iotmonitor; umask 077; cat > /etc/iotmonitor/config.toml' \
        < "$work/config.toml"
    say "the shipped config.toml with watchTimeOut = 4, and this agent:"
    tail -n 4 "$work/config.toml"
}

start_monitor() {
    say "systemctl start iotmonitor"
    follow
    inside systemctl start iotmonitor.service
}

# Follows the journal and the alerts on MQTT, and prints each line immediately.
follow() {
    inside journalctl --follow --no-tail --output=short --no-hostname \
        --unit=iotmonitor.service --unit=iotmonitor-agent-demo.service &
    followers+=($!)
    inside stdbuf -oL mosquitto_sub -R -F 'mqtt            %t %p' \
        -t 'home/monitoring/expire/+' -t 'home/monitoring/recover/+' \
        -t 'home/monitoring/startedprocess/+' -t 'home/monitoring/helloTopicCount/+' \
        -t 'home/esp04/actuators/#' &
    followers+=($!)
}

publish() { inside mosquitto_pub -q 1 -t "$1" -m "$2"; }

alerts() {
    inside journalctl --quiet --output=cat --unit=iotmonitor.service \
        "IOTMONITOR_EVENT=$1" "IOTMONITOR_DEVICE=$2" | wc -l
}

kill_agent() {
    local pid
    pid=$(inside systemctl show --value --property=MainPID iotmonitor-agent-demo.service)
    say "the agent's main process $pid is killed with SIGKILL"
    inside kill -9 "$pid" || true
}

show_status() {
    say "systemctl status iotmonitor"
    inside systemctl --no-pager --lines=0 status iotmonitor.service || true
}
