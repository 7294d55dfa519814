"""Watches devices over MQTT, and restores their states when they say hello.

usage: watchdog.py HOST PORT BASE DEVICES
  DEVICES  a file with lines `NAME SECONDS`; the device NAME publishes below b/NAME
"""

import sys
import time
from collections import defaultdict

import paho.mqtt.client as mqtt

host, port, base, devices = sys.argv[1:]
with open(devices, encoding="utf-8") as lines:
    timeout = {name: float(seconds) for name, seconds in map(str.split, lines)}
last = dict.fromkeys(timeout, time.time())
expired = set()
states = defaultdict(dict)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe([("b/+/sensors/#", 0), ("b/+/hello", 1), ("b/+/actuators/#", 1)])


def on_message(client, userdata, message):
    _, name, kind, *_ = message.topic.split("/")
    if kind == "actuators":
        states[name][message.topic] = message.payload
    elif name in timeout and not message.retain:
        last[name] = time.time()
        if name in expired:
            expired.remove(name)
            client.publish(f"{base}/recover/{name}", int(last[name]), qos=1)
        if kind == "hello":
            for topic, payload in states[name].items():
                client.publish(topic, payload, qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="watchdog")
client.on_connect, client.on_message = on_connect, on_message
client.will_set(f"{base}/availability", "offline", qos=1, retain=True)
client.connect(host, int(port))
client.publish(f"{base}/availability", "online", qos=1, retain=True)
client.loop_start()
while True:
    time.sleep(1)
    for name, seconds in timeout.items():
        if name not in expired and time.time() - last[name] > seconds:
            expired.add(name)
            client.publish(f"{base}/expire/{name}", int(last[name]), qos=1)
