#!/bin/bash
# Shows iotmonitor at work in a container of its own: a device that talks, falls silent and says
# hello, and an agent that is killed. On a terminal until Ctrl-C; without one for 30 seconds, and
# then it fails unless expiry, restore and relaunch were all seen.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds_without_terminal=30
name=iotmonitor-test-$$-demo
scripts=tests/machine
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
nspawn=
init=
followers=()

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    if ((${#followers[@]})); then kill "${followers[@]}" 2> /dev/null || true; fi
    if [[ -n $nspawn ]]; then
        kill -9 "$nspawn" 2> /dev/null || true
        wait "$nspawn" 2> /dev/null || true
        $scripts/remove.sh "$name"
    fi
    rm -rf "$work"
    exit $status
}
trap clean_up EXIT

say() { printf '\n== %s\n' "$*"; }

# Runs a noisy step quietly; shows what it printed when it fails.
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

inside() {
    nsenter --target "$init" --all -- env -i LANG=C.UTF-8 HOME=/root \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

boot() {
    image=$($scripts/build-image.sh "$target/system-image")
    $scripts/remove.sh --stale
    mkdir -p /run/iotmonitor-test
    setsid setpriv --pdeathsig KILL unshare --mount $scripts/boot.sh \
        "$name" "$image" "$PWD/$target/debug/iotmonitor" "$PWD/systemd" > "$work/console" 2>&1 &
    nspawn=$!
    for _ in {1..300}; do
        # The list has no newline, which makes read fail after it has read.
        init=
        read -r init _ < "/proc/$nspawn/task/$nspawn/children" || true
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

# The shipped file, with a timeout short enough to watch, and an agent.
write_config() {
    sed 's/^watchTimeOut = 60 /watchTimeOut = 4 /' config.toml > "$work/config.toml"
    cat >> "$work/config.toml" <<'END'

[agent_demo]
exec = "while sleep 1; do mosquitto_pub -t home/agents/demo/alive -m $$; done"
watchTopics = "home/agents/demo/#"
END
    inside sh -c 'mkdir -p /etc/iotmonitor; umask 077; cat > /etc/iotmonitor/config.toml' \
        < "$work/config.toml"
}

# Follows the journal and the alerts on MQTT, each line at once.
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

# How many alerts of this kind there are for this device.
alerts() {
    inside journalctl --quiet --output=cat --unit=iotmonitor.service \
        "IOTMONITOR_EVENT=$1" "IOTMONITOR_DEVICE=$2" | wc -l
}

# Waits until there is one alert more of this kind than there were; fails after 15 seconds.
await_alert() {
    local event=$1 device=$2 before=$3
    for _ in {1..75}; do
        if (($(alerts "$event" "$device") > before)); then return 0; fi
        sleep 0.2
    done
    return 1
}

# One round of the play; what did not show up is noted in $missing.
play() {
    local i expired restored started pid
    expired=$(alerts expired esp04) restored=$(alerts restored esp04)
    started=$(alerts agent-started demo)
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
    pid=$(inside systemctl show --value --property=MainPID iotmonitor-agent-demo.service)
    say "the agent's main process $pid is killed with SIGKILL"
    inside kill -9 "$pid" || true
    await_alert agent-started demo "$started" || missing+=("the relaunch of the agent")
}

if ((EUID != 0)); then
    echo "the demonstration boots a container: run \`make run\` as root" >&2
    exit 1
fi
step "packages" packaging/deps.sh
step "building iotmonitor" cargo build --locked
# In the background the machine would not be this shell's child, so it is booted without `step`.
printf 'booting a Debian with systemd and mosquitto (the first time its image is built) … '
boot
echo "done"
write_config
say "the shipped config.toml with watchTimeOut = 4, and this agent:"
tail -n 4 "$work/config.toml"

say "systemctl start iotmonitor"
trap 'exit 0' INT
started_at=$SECONDS
missing=()
follow
inside systemctl start iotmonitor.service
if ! await_alert agent-started demo 0; then missing+=("the start of the agent"); fi
play
if ((${#missing[@]})); then
    say "did not show up: $(printf '%s; ' "${missing[@]}")"
    exit 1
fi
say "systemctl status iotmonitor"
inside systemctl --no-pager --lines=0 status iotmonitor.service || true
if [[ -t 0 && -t 1 ]]; then
    say "this goes on until you press Ctrl-C"
    while true; do sleep 5; play; done
fi
left=$((seconds_without_terminal - (SECONDS - started_at)))
if ((left > 0)); then sleep "$left"; fi
say "seen: the expiry, the restored states and the relaunch"
