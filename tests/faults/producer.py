"""Publishes camera events: `producer.py ENDPOINT JOURNAL FIRST COUNT RATE [TOPICS]`; RATE 0 is as fast as possible.

Says `ready`, then publishes, says `done`, and goes on with heartbeats until its standard input closes.
`done` tells the seconds it took and how many events waited for the socket at most. Each event's reason holds its
number, so that a reader can tell which are missing.
"""

import sys
import time

from personsearch.runtime.delivery.events import EventFactory
from personsearch.runtime.delivery.publisher import Publisher
from personsearch.runtime.settings import JournalSettings, PublishSettings

endpoint, path, first, count, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
topics = int(sys.argv[6]) if len(sys.argv) > 6 else 4
events = EventFactory("producer")
publisher = Publisher(PublishSettings(endpoint=endpoint), JournalSettings(path=path), "producer")
print("ready", flush=True)
sys.stdin.readline()
began, most = time.monotonic(), 0
for number in range(first, first + count):
    if rate:
        time.sleep(max(0.0, began + (number - first) / rate - time.monotonic()))
    publisher.publish(events.camera_state(f"c{number % topics}", "online", "", str(number), time.time()))
    most = max(most, number - first + 1 - publisher.sent)
while publisher.sent < count:
    time.sleep(0.01)
print(f"done {time.monotonic() - began:.3f} {most}", flush=True)
sys.stdin.readline()
publisher.close()
