# SPDX-License-Identifier: Apache-2.0
"""A hand-written consumer, as fast as pika is without tricks: prefetch 1000, an acknowledgement for every 100 messages.

    python pika_drain.py URL QUEUE COUNT        ends after COUNT messages
"""
import json
import sys

import pika

url, queue, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


def handler(event):
    return event


def on_message(channel, method, properties, body):
    global left
    handler(json.loads(body))
    left -= 1
    if left % 100 == 0:
        channel.basic_ack(method.delivery_tag, multiple=True)
    if left == 0:
        channel.stop_consuming()


left = count
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.basic_qos(prefetch_count=1000)
channel.basic_consume(queue, on_message)
channel.start_consuming()
connection.close()
