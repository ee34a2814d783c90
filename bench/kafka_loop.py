# SPDX-License-Identifier: Apache-2.0
"""A hand-written confluent-kafka consumer: batches of 1000, an offset commit for each batch, which goes on beside the work.

    python kafka_loop.py BROKERS TOPIC GROUP COUNT [NAME=VALUE…]        ends after COUNT records; librdkafka settings
"""
import json
import sys

from confluent_kafka import Consumer, KafkaException

brokers, topic, group, count = sys.argv[1:5]


def handler(event):
    return event


consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, **dict(word.split("=", 1) for word in sys.argv[5:])})
consumer.subscribe([topic])
loads, left = json.loads, int(count)
while left > 0:
    messages = consumer.consume(1000, 1.0)
    if not messages:
        continue
    for message in messages:
        if message.error():
            raise KafkaException(message.error())
        handler(loads(message.value()))
    consumer.commit(asynchronous=True)
    left -= len(messages)
consumer.close()
