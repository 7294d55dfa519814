#!/bin/bash
# Shows three machines that share an agent and a device: the one with the agent is cut off, and another one
# takes over. On a terminal this is repeated until Ctrl-C. Without a terminal it is shown once, and fails unless
# everything has occurred.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

if ! why=$(packaging/container.sh); then
    echo "the demonstration of a cluster boots three containers, which needs root with CAP_SYS_ADMIN: $why" >&2
    exit 1
fi
# shellcheck source=packaging/demo-common.sh
. packaging/demo-common.sh
# shellcheck source=packaging/demo-machines.sh
. packaging/demo-machines.sh

nodes=(pi1 pi2 pi3)
broker=10.77.0.9
network=
alive=$work/alive

options_of() { :; }
take_down() { kill_machines; }
on_network() { nsenter --target "$network" --net "$@"; }
publish() { on_network mosquitto_pub -h $broker -q 1 -t "$1" -m "$2"; }

# Waits until a command succeeds, and fails after that many seconds.
await() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS >= until)); then return 1; fi
        sleep 0.2
    done
}

# The network with its broker, on which nothing of this machine is.
start_network() {
    unshare --net $scripts/network.sh hold &
    network=$!
    followers+=("$network")
    await 10 network_is_up
    printf 'listener 1883\nallow_anonymous true\nuser root\n' > "$work/mosquitto.conf"
    nsenter --target "$network" --net mosquitto -c "$work/mosquitto.conf" > "$work/mosquitto.log" 2>&1 &
    followers+=("$!")
    await 10 on_network mosquitto_pub -h $broker -t try -m try 2> /dev/null
}

network_is_up() { [[ -n $(on_network ip link show bridge up 2> /dev/null) ]]; }

config() {
    cat << END
[mqtt]
serverAddress = "tcp://$broker:1883"

[cluster]
name = "house"
node = "$1"
endpoints = ["https://10.77.0.1:2379", "https://10.77.0.2:2379", "https://10.77.0.3:2379"]
caFile = "/etc/cluster/ca.pem"
certFile = "/etc/cluster/client.pem"
keyFile = "/etc/cluster/client.key"

[device_esp04]
watchTimeOut = 4
helloTopic = "home/esp04"
watchTopics = "home/esp04/sensors/#"
stateTopics = "home/esp04/actuators/#"

[agent_demo]
exec = "while sleep 1; do mosquitto_pub -h $broker -t home/agents/demo/alive -m \$(uname -n); done"
watchTopics = "home/agents/demo/#"
END
}

start_nodes() {
    local node number=0
    $scripts/certificates.sh "$work"
    for node in "${nodes[@]}"; do
        number=$((number + 1))
        $scripts/network.sh plug "$network" "${init_of[$node]}" $number
        $scripts/member.sh "${init_of[$node]}" $number "$work"
        config "$node" \
            | inside_of "$node" sh -c 'mkdir -p /etc/iotmonitor; umask 077; cat > /etc/iotmonitor/config.toml'
    done
    say "each machine has a member of etcd, and this configuration with the name of the node:"
    config pi1
    for node in "${nodes[@]}"; do
        inside_of "$node" journalctl --follow --no-tail --output=short --unit=iotmonitor.service &
        followers+=("$!")
        inside_of "$node" systemctl start --no-block iotmonitor.service
    done
    follow '%t %p' -t home/agents/demo/alive > "$alive"
    follow 'mqtt            %t %p' -t home/agents/demo/alive -t 'home/monitoring/expire/+' \
        -t 'home/monitoring/recover/+' -t 'home/esp04/actuators/#'
}

# Prints messages as they arrive.
follow() {
    local format=$1
    shift
    nsenter --target "$network" --net stdbuf -oL mosquitto_sub -h $broker -R -F "$format" "$@" &
    followers+=("$!")
}

# The node on which the agent runs, as the agent says.
place() { tail -n 1 "$alive" | cut -d ' ' -f 2; }
is_placed() { [[ -n $(place) ]]; }
is_elsewhere() { [[ $(place) != "$1" ]]; }

alerts() {
    inside_of "$1" journalctl --quiet --output=cat --unit=iotmonitor.service "IOTMONITOR_EVENT=$2" | wc -l
}

# The device talks in the background, whatever happens.
talk() {
    while sleep 1; do publish home/esp04/sensors/temperature "2$((RANDOM % 10)).5"; done
}


play() {
    local from to began restored
    from=$(place)
    say "the lamp of esp04 is switched on, and the agent runs on $from"
    publish home/esp04/actuators/lamp on
    sleep 2
    say "the cable of $from is pulled: it reaches neither the broker nor the other machines"
    $scripts/network.sh cut "${init_of[$from]}" ingress egress
    began=$SECONDS
    if ! await 30 is_elsewhere "$from"; then
        missing+=("the start of the agent elsewhere")
        $scripts/network.sh mend "${init_of[$from]}"
        return
    fi
    to=$(place)
    say "$to runs the agent, $((SECONDS - began)) s after that; on $from it ended before"
    say "esp04 says hello, and gets its state from whichever node watches it now"
    restored=$(alerts pi1 restored)$(alerts pi2 restored)$(alerts pi3 restored)
    publish home/esp04 hello
    await 15 has_restored "$restored" || missing+=("the restored state of esp04")
    say "iotmonitor cluster, on $to"
    inside_of "$to" iotmonitor cluster || missing+=("the list of the nodes")
    say "the cable of $from is plugged in again"
    $scripts/network.sh mend "${init_of[$from]}"
    await 30 is_back "$from" || missing+=("the return of $from")
    say "iotmonitor cluster, on $from"
    inside_of "$from" iotmonitor cluster || missing+=("the list of the nodes")
}

has_restored() { [[ $(alerts pi1 restored)$(alerts pi2 restored)$(alerts pi3 restored) != "$1" ]]; }
is_back() { inside_of "$1" iotmonitor cluster | grep --quiet "^$1 .*alive"; }

trap clean_up EXIT
step "packages" packaging/deps.sh
step "building iotmonitor" packaging/debug-build.sh --bin iotmonitor
printf 'booting three Debians with systemd and etcd (the first time, their image is built) … '
boot_machines "${nodes[@]}"
echo "done"
start_network

trap 'exit 0' INT
missing=()
talk &
followers+=("$!")
start_nodes
if await 60 is_placed; then
    play
else
    missing+=("the start of the agent")
fi
if ((${#missing[@]})); then
    say "did not show up: $(printf '%s; ' "${missing[@]}")"
    exit 1
fi
if [[ -t 0 && -t 1 ]]; then
    say "this goes on until you press Ctrl-C"
    while true; do sleep 10; play; done
fi
say "seen: the agent moved to another node, and the state of the device was restored"
