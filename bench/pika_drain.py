# SPDX-License-Identifier: Apache-2.0
"""A hand-written pika consumer: prefetch 1000, an acknowledgement for every 100 messages (a good one), or for each (most).

    python pika_drain.py URL QUEUE COUNT ACK_EVERY        ends after COUNT messages
"""
import json
import sys

import pika

url, queue, count, ack_every = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def handler(event):
    return event


def on_message(channel, method, properties, body):
    global left
    handler(json.loads(body))
    left -= 1
    if left % ack_every == 0:
        channel.basic_ack(method.delivery_tag, multiple=ack_every > 1)
    if left == 0:
        channel.stop_consuming()


left = count
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.basic_qos(prefetch_count=1000)
channel.basic_consume(queue, on_message)
channel.start_consuming()
connection.close()
