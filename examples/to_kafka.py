# SPDX-License-Identifier: Apache-2.0
"""Writes 20 records with 5 keys to the topic `orders`, which it makes:  /usr/bin/python3 to_kafka.py 127.0.0.1:9092

Needs Debian's python3-confluent-kafka (make test-deps installs it).
"""
import sys

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

broker = {"bootstrap.servers": sys.argv[1]}
admin = AdminClient(broker)
try:
    admin.create_topics([NewTopic("orders", 3, 1)])["orders"].result(30)
except KafkaException as why:
    if why.args[0].name() != "TOPIC_ALREADY_EXISTS":
        raise
to = Producer(broker)
for n in range(20):
    to.produce("orders", f'{{"name": "order {n}"}}', key=f"customer {n % 5}")
to.flush()
