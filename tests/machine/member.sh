#!/bin/bash
# Makes a test machine a member of etcd with the name piNUMBER, and starts that. It is ready when the second of the three is there.
# usage: member.sh INIT NUMBER CERTIFICATES
#   INIT          the machine's PID 1 as seen from outside
#   NUMBER        1, 2 or 3: the machine is 10.77.0.NUMBER
#   CERTIFICATES  the directory that certificates.sh has filled
#
# Clients need a certificate, but for those on the machine itself, which use port 2381.
set -euo pipefail

init=$1 number=$2 certificates=$3
inside() { nsenter --target "$init" --all -- "$@"; }

tar --create --directory "$certificates" ca.pem server.pem server.key client.pem client.key \
    | inside sh -ec 'mkdir -p /etc/cluster; tar --extract --no-same-owner --directory /etc/cluster
        chown etcd /etc/cluster/server.key; chmod 600 /etc/cluster/*.key'
inside sh -ec 'install -d -m 700 -o etcd -g etcd /var/lib/etcd; cat > /etc/default/etcd' << END
ETCD_NAME=pi$number
ETCD_UNSUPPORTED_ARCH=arm64
ETCD_INITIAL_CLUSTER=pi1=http://10.77.0.1:2380,pi2=http://10.77.0.2:2380,pi3=http://10.77.0.3:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.77.0.$number:2380
ETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380
ETCD_ADVERTISE_CLIENT_URLS=https://10.77.0.$number:2379
ETCD_LISTEN_CLIENT_URLS=https://0.0.0.0:2379,http://127.0.0.1:2381
ETCD_CERT_FILE=/etc/cluster/server.pem
ETCD_KEY_FILE=/etc/cluster/server.key
ETCD_TRUSTED_CA_FILE=/etc/cluster/ca.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_PRE_VOTE=true
ETCD_BACKEND_BATCH_INTERVAL=10s
ETCD_AUTO_COMPACTION_MODE=periodic
ETCD_AUTO_COMPACTION_RETENTION=10m
END
# The image has the name of the machine that has built it.
inside hostname "pi$number"
inside systemctl start --no-block etcd.service
