#!/bin/bash
# Shows iotmonitor at work: a device that talks, falls silent and says hello, and an agent that is killed.
# On a terminal it runs until Ctrl-C. Without a terminal it runs for 30 seconds and fails unless every event
# has occurred.
#
# If a container can be booted, it runs a real systemd. Otherwise broker and monitor are plain processes,
# and there are no agents, because agents are units of systemd.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds_without_terminal=30
# shellcheck source=packaging/demo-common.sh
. packaging/demo-common.sh

# Each of these files defines prepare, take_down, write_config, start_monitor, show_status, publish, alerts
# (the number of alerts of a kind for a device) and, with agents, follow and kill_agent.
if why=$(packaging/container.sh); then
    has_agents=true
    # shellcheck source=packaging/demo-container.sh
    . packaging/demo-container.sh
else
    has_agents=false
    # shellcheck source=packaging/demo-plain.sh
    . packaging/demo-plain.sh
fi

# Waits until there are more alerts of this kind than before, and fails after 15 seconds.
await_alert() {
    local event=$1 device=$2 before=$3
    for _ in {1..75}; do
        if (($(alerts "$event" "$device") > before)); then return 0; fi
        sleep 0.2
    done
    return 1
}

# Runs one round of the demonstration, and adds events that did not occur to $missing.
play() {
    local i expired restored started
    expired=$(alerts expired esp04) restored=$(alerts restored esp04)
    say "the device esp04 talks, and its lamp is switched on"
    for i in 1 2 3; do
        publish home/esp04/sensors/temperature "2$i.5"
        publish home/esp04/actuators/lamp on
        sleep 1
    done
    say "esp04 falls silent; its watchTimeOut is 4 seconds"
    await_alert expired esp04 "$expired" || missing+=("the alert that esp04 expired")
    say "esp04 is back and says hello: its states are published again"
    publish home/esp04 hello
    await_alert restored esp04 "$restored" || missing+=("the restored states of esp04")
    if $has_agents; then
        started=$(alerts agent-started demo)
        kill_agent
        await_alert agent-started demo "$started" || missing+=("the relaunch of the agent")
    fi
}

trap clean_up EXIT
prepare
# This is the shipped file with a shorter timeout.
sed 's/^watchTimeOut = 60 /watchTimeOut = 4 /' config.toml > "$work/config.toml"
write_config

trap 'exit 0' INT
started_at=$SECONDS
missing=()
start_monitor
if $has_agents && ! await_alert agent-started demo 0; then missing+=("the start of the agent"); fi
play
if ((${#missing[@]})); then
    say "did not show up: $(printf '%s; ' "${missing[@]}")"
    exit 1
fi
show_status
if ! $has_agents; then say "agents, which are units of systemd, are not shown: $why"; fi
if [[ -t 0 && -t 1 ]]; then
    say "this goes on until you press Ctrl-C"
    while true; do sleep 5; play; done
fi
left=$((seconds_without_terminal - (SECONDS - started_at)))
if ((left > 0)); then sleep "$left"; fi
if $has_agents; then
    say "seen: the expiry, the restored states and the relaunch"
else
    say "seen: the expiry and the restored states"
fi
