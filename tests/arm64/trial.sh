#!/bin/bash
# Runs in the emulated arm64 machine: installs the package, and checks that a silent device is reported,
# a state restored, a killed agent relaunched, the configuration reloaded and a hung monitor restarted.
set -uo pipefail

said=/trial/said
fail() {
    echo "FAILED: $1"
    tail -n 30 "$said"
    journalctl --no-pager -o short-monotonic -u iotmonitor -u 'iotmonitor-agent-*' | tail -n 60
    exit 1
}
# Emulation is slow; this is waited for in full only when it fails.
await() {
    local what=$1 tries
    shift
    for ((tries = 0; tries < 1200; tries++)); do
        if "$@"; then
            echo "ok: $what"
            return
        fi
        sleep 0.25
    done
    fail "$what"
}
says() { grep --quiet -- "$1" "$said"; }
counts() { (($(grep --count -- "$1" "$said") >= $2)); }
property() { systemctl show --value --property "$2" "$1"; }
other_than() { [[ $(property "$1" MainPID) != 0 && $(property "$1" MainPID) != "$2" ]]; }

uname -srm
dpkg --install /trial/iotmonitor.deb || fail "the package installs"
iotmonitor --version
touch "$said"
await "the broker is up" mosquitto_pub -t trial -m x
mosquitto_sub -v -t 'home/#' > "$said" &

cat > /etc/iotmonitor/config.toml << 'END'
[mqtt]
serverAddress = "tcp://localhost:1883"

[device_lamp]
watchTimeOut = 20
watchTopics = "home/lamp/sensors/#"
stateTopics = "home/lamp/set"
helloTopic = "home/lamp/hello"

[agent_sleeper]
exec = "exec sleep infinity"
END
mkdir -p /etc/systemd/system/iotmonitor.service.d
printf '[Service]\nWatchdogSec=20s\n' > /etc/systemd/system/iotmonitor.service.d/trial.conf
systemctl daemon-reload
systemctl start iotmonitor || fail "the service starts"
await "the service is online" says 'availability online'
await "the agent runs" says 'startedprocess/sleeper'

contact() {
    mosquitto_pub -t home/lamp/sensors/light -m on
    says 'status/lamp .*"alive"'
}
await "the device is heard" contact
await "the silent device is reported" says 'expire/lamp'

mosquitto_pub -q 1 -t home/lamp/set -m blue
hello() {
    mosquitto_pub -t home/lamp/hello -m hello
    counts 'home/lamp/set blue' 2
}
await "the state is restored" hello

agent=$(property iotmonitor-agent-sleeper MainPID)
kill -KILL "$agent"
await "the killed agent is relaunched" other_than iotmonitor-agent-sleeper "$agent"

printf '\n[device_pump]\nwatchTimeOut = 9000\nwatchTopics = "home/pump"\n' >> /etc/iotmonitor/config.toml
systemctl reload iotmonitor || fail "the configuration is reloaded"
pump() {
    mosquitto_pub -t home/pump -m on
    says 'status/pump .*"alive"'
}
await "the new device is heard" pump

monitor=$(property iotmonitor MainPID)
agent=$(property iotmonitor-agent-sleeper MainPID)
kill -STOP "$monitor"
await "the hung monitor is restarted by the watchdog" other_than iotmonitor "$monitor"
await "it is online again" counts 'availability online' 2
[[ $(property iotmonitor-agent-sleeper MainPID) == "$agent" ]] || fail "the agent goes on"

systemctl stop iotmonitor || fail "the service stops"
journalctl --no-pager -o short-monotonic -u iotmonitor -u 'iotmonitor-agent-*'
shows() {
    local message
    message=$(journalctl --quiet --no-pager -o cat "IOTMONITOR_EVENT=$1" | grep --max-count=1 -- "$2") ||
        fail "the journal has the event $1"
    echo "$1: $message"
}
shows expired 'lamp. is silent'
shows restored 'state of .lamp'
shows agent-started 'systemd has restarted it'
shows reloaded 'is in force'
echo "PASSED after $(cut -d ' ' -f 1 /proc/uptime) s"
