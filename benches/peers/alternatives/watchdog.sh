#!/bin/bash
# Watches devices over MQTT. A device that is silent for longer than its time-out is published as
# BASE/expire/NAME with the time of its last message, and as BASE/recover/NAME when it speaks again.
# usage: watchdog.sh HOST PORT BASE DEVICES
#   DEVICES  a file with lines `NAME SECONDS`; the device NAME publishes below b/NAME/sensors
set -euo pipefail

host=$1 port=$2 base=$3 devices=$4
declare -A timeout last expired
while read -r name seconds; do
    timeout[$name]=$seconds
    last[$name]=$EPOCHSECONDS
done < "$devices"

publish() {
    mosquitto_pub -h "$host" -p "$port" -q 1 -t "$base/$1" -m "$2" || true
}

check() {
    local name
    for name in "${!timeout[@]}"; do
        if [[ -z ${expired[$name]:-} ]] && ((EPOCHSECONDS - last[$name] > timeout[$name])); then
            expired[$name]=yes
            publish "expire/$name" "${last[$name]}"
        fi
    done
}

hear() {
    [[ -n ${timeout[$1]:-} ]] || return 0
    last[$1]=$EPOCHSECONDS
    if [[ -n ${expired[$1]:-} ]]; then
        unset "expired[$1]"
        publish "recover/$1" "$EPOCHSECONDS"
    fi
}

exec 3< <(exec mosquitto_sub -h "$host" -p "$port" -t 'b/+/sensors/#' -F %t)
checked=$EPOCHSECONDS
while true; do
    if IFS=/ read -r -t 1 -u 3 _ name _; then
        hear "$name"
    elif (($? <= 128)); then
        echo "mosquitto_sub has ended" >&2
        exit 1
    fi
    if ((EPOCHSECONDS != checked)); then
        checked=$EPOCHSECONDS
        check
    fi
done
