# The demonstration with broker and monitor as plain processes, which needs neither root nor a container.
# demo.sh sources this file.
# shellcheck shell=bash disable=SC2154

PATH=$PATH:/usr/sbin:/sbin
port=

prepare() {
    local tool
    for tool in mosquitto mosquitto_pub mosquitto_sub; do
        if command -v "$tool" > /dev/null; then continue; fi
        if ((EUID != 0)); then
            echo "the demonstration needs $tool: run \`make deps\` as root" >&2
            exit 1
        fi
        step "packages" packaging/deps.sh
    done
    step "building iotmonitor" packaging/debug-build.sh --bin iotmonitor
    start_broker
}

take_down() { :; }

# Starts a broker on a free port. If another process uses the port, the broker exits immediately.
start_broker() {
    local broker
    for _ in {1..20}; do
        port=$((20000 + RANDOM % 12000))
        printf 'listener %s 127.0.0.1\nallow_anonymous true\nuser root\n' "$port" > "$work/mosquitto.conf"
        mosquitto -c "$work/mosquitto.conf" > "$work/mosquitto.log" 2>&1 &
        broker=$!
        for _ in {1..50}; do
            if ! kill -0 "$broker" 2> /dev/null; then break; fi
            if mosquitto_pub -p "$port" -t try -m try 2> /dev/null; then
                followers+=("$broker")
                return
            fi
            sleep 0.1
        done
        kill "$broker" 2> /dev/null || true
    done
    cat "$work/mosquitto.log"
    return 1
}

write_config() {
    sed -i "s|^serverAddress = \"[^\"]*\"|serverAddress = \"tcp://127.0.0.1:$port\"|" "$work/config.toml"
    chmod 600 "$work/config.toml"
    say "the shipped config.toml with watchTimeOut = 4 and a broker of its own"
}

start_monitor() {
    say "iotmonitor run --config config.toml"
    : > "$work/log"
    tail --follow --lines=+1 "$work/log" &
    followers+=($!)
    stdbuf -oL mosquitto_sub -p "$port" -R -F 'mqtt  %t %p' \
        -t 'home/monitoring/expire/+' -t 'home/monitoring/recover/+' \
        -t 'home/monitoring/helloTopicCount/+' -t 'home/esp04/actuators/#' &
    followers+=($!)
    # The monitor has separate directories and no bus, so it does not affect the services of this machine.
    env -u NOTIFY_SOCKET -u JOURNAL_STREAM -u CREDENTIALS_DIRECTORY \
        STATE_DIRECTORY="$work/states" RUNTIME_DIRECTORY="$work/run" \
        DBUS_SYSTEM_BUS_ADDRESS="unix:path=$work/bus" \
        "$target/debug/iotmonitor" run --config "$work/config.toml" 2>> "$work/log" &
    followers+=($!)
    for _ in {1..100}; do
        if grep -q 'connected to the broker' "$work/log"; then return; fi
        sleep 0.1
    done
    missing+=("the connection to the broker")
}

publish() { mosquitto_pub -p "$port" -q 1 -t "$1" -m "$2"; }

alerts() {
    local -A sentences=([expired]="device \`$2\` is silent" [restored]="restored 1 state of \`$2\`")
    grep --count --fixed-strings "${sentences[$1]}" "$work/log" || true
}

show_status() { :; }
