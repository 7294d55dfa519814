#!/bin/sh
# Puts the files of this directory in their places, and starts etcd. Run it as root on the host that the
# directory is named after.
set -eu
cd "$(dirname "$0")"

if [ "$(id -u)" -ne 0 ]; then
	echo "run this as root: sudo sh $0" >&2
	exit 1
fi
if ! getent group etcd >/dev/null; then
	echo "etcd is not installed: apt install etcd-server" >&2
	exit 1
fi

install -d -m 755 /etc/etcd
install -d -o root -g etcd -m 750 /etc/etcd/iotmonitor
install -o root -g etcd -m 640 ca.pem etcd.pem etcd.key /etc/etcd/iotmonitor/
if [ -e /etc/default/etcd ] && ! [ -e /etc/default/etcd.before-iotmonitor ]; then
	cp -p /etc/default/etcd /etc/default/etcd.before-iotmonitor
fi
install -m 644 etcd.env /etc/default/etcd
# etcd 3.4 wants this on ARM, and 3.5 on ARM of 32 bits.
case "$(dpkg --print-architecture)" in
arm64) echo 'ETCD_UNSUPPORTED_ARCH="arm64"' >>/etc/default/etcd ;;
armhf) echo 'ETCD_UNSUPPORTED_ARCH="arm"' >>/etc/default/etcd ;;
esac

install -d -m 755 /etc/iotmonitor /etc/iotmonitor/config.d
install -d -m 700 /etc/iotmonitor/cluster
install -m 600 ca.pem node.pem node.key /etc/iotmonitor/cluster/
install -m 644 cluster.toml /etc/iotmonitor/config.d/cluster.toml

systemctl enable --quiet etcd
# It reports that it has started when a second member is there.
systemctl restart --no-block etcd
echo "etcd is being started: run this on the other hosts too"
