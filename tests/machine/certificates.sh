#!/bin/bash
# Makes the certificates by which the members of etcd and their clients know each other.
# usage: certificates.sh DIRECTORY; writes ca.pem, and server.pem and client.pem with their keys
set -euo pipefail
cd "$1"

key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
addresses=IP:127.0.0.1,IP:10.77.0.1,IP:10.77.0.2,IP:10.77.0.3
{
    openssl req -x509 "${key[@]}" -days 30 -keyout ca.key -out ca.pem -subj /CN=ca
    for name in server client; do
        openssl req "${key[@]}" -keyout $name.key -out $name.csr -subj /CN=$name
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out $name.pem \
            -extfile <(echo "subjectAltName=$addresses")
    done
} 2> openssl.log || { cat openssl.log >&2; exit 1; }
