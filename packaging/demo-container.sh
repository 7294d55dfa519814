# The demonstration in a separate container with a real systemd. demo.sh sources this file.
# shellcheck shell=bash disable=SC2154

# shellcheck source=packaging/demo-machines.sh
. packaging/demo-machines.sh

inside() { inside_of demo "$@"; }

options_of() { :; }

prepare() {
    step "packages" packaging/deps.sh
    step "building iotmonitor" packaging/debug-build.sh --bin iotmonitor
    # The machine is booted without `step`, because it has to be a child of this shell.
    printf 'booting a Debian with systemd and mosquitto (the first time its image is built) … '
    boot_machines demo
    echo "done"
}

take_down() { kill_machines; }

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
