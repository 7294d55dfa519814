#!/bin/bash
# A network for test machines: a bridge in a network namespace of its own.
# usage: unshare --net network.sh hold           becomes the network, which ends with this process
#        network.sh plug NETWORK INIT NUMBER     plugs a machine in
#        network.sh cut INIT HOOK…               loses packets: ingress those that arrive, egress those that leave
#        network.sh mend INIT                    ends that
#   NETWORK  the process that became the network, whose own address is 10.77.0.9
#   INIT     the machine's PID 1 as seen from outside
#   NUMBER   1 to 8: the machine has the address 10.77.0.NUMBER on its eth0, until it ends
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

hold() {
    ip link set lo up
    ip link add bridge type bridge
    ip address add 10.77.0.9/24 dev bridge
    ip link set bridge up
    exec sleep infinity
}

plug() {
    local network=$1 init=$2 number=$3 port=port$3
    nsenter --target "$network" --net ip link add "$port" type veth peer name eth0 netns "$init"
    nsenter --target "$network" --net ip link set "$port" master bridge up
    nsenter --target "$init" --net ip address add "10.77.0.$number/24" dev eth0
    nsenter --target "$init" --net ip link set eth0 up
}

# The connections of the machine see silence and nothing else.
cut() {
    local init=$1 hook
    shift
    {
        echo 'add table netdev cut'
        for hook in "$@"; do
            echo "add chain netdev cut $hook { type filter hook $hook device eth0 priority 0; policy drop; }"
        done
    } | nsenter --target "$init" --all -- nft -f -
}

mend() { nsenter --target "$1" --all -- nft delete table netdev cut; }

"$@"
