# SPDX-License-Identifier: Apache-2.0
"""What one writes without weir to replay dead letters: read the dead-letter queue, publish each message to the live queue, and
acknowledge it once the broker has confirmed that, in batches of 100. Prefetch 1000, nothing waits for a single answer.

    python pika_move.py URL FROM TO COUNT        prints the seconds from the first message to the last acknowledgement
"""
import sys
import time

import pika

PREFETCH, BATCH = 1000, 100


class Mover:
    def __init__(self, url, source, target, count):
        self.source, self.target, self.count = source, target, count
        self.start = None
        self.confirmed = self.acked = 0  # all up to these numbers
        self.early = set()               # confirmed beyond that
        self.connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=lambda c: c.channel(on_open_callback=self.begin))
        self.connection.ioloop.start()

    def begin(self, channel):
        self.channel = channel
        channel.confirm_delivery(self.on_confirm)
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(self.source, self.on_message)

    def on_message(self, channel, method, properties, body):
        if self.start is None:
            self.start = time.monotonic()
        channel.basic_publish("", self.target, body, properties)  # the n-th message that came is the n-th that goes

    def on_confirm(self, frame):
        if not isinstance(frame.method, pika.spec.Basic.Ack):
            sys.exit("pika_move.py: the broker refused a message")
        tag = frame.method.delivery_tag
        if frame.method.multiple:
            self.early.update(range(self.confirmed + 1, tag + 1))
        else:
            self.early.add(tag)
        while self.confirmed + 1 in self.early:
            self.confirmed += 1
            self.early.discard(self.confirmed)
        if self.confirmed - self.acked >= BATCH or self.confirmed == self.count:
            self.acked = self.confirmed
            self.channel.basic_ack(self.acked, multiple=True)
        if self.acked == self.count:
            print(time.monotonic() - self.start)
            self.connection.close()
            self.connection.ioloop.stop()


Mover(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
