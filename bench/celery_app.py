# SPDX-License-Identifier: Apache-2.0
"""The echo handler as a Celery task, and its publisher.

    celery -A celery_app worker …           environment: BENCH_AMQP, BENCH_COUNTER
    python celery_app.py send COUNT         prints the seconds that sending took

What was handled is counted in a file that is mapped into memory, one number a worker process: that costs a task next to nothing.
"""
import itertools
import mmap
import os
import sys
import time

from celery import Celery
from celery.signals import worker_process_init

SLOTS = 64

app = Celery("bench", broker=os.environ["BENCH_AMQP"])
app.conf.update(
    task_ignore_result=True,         # nobody waits for a result, as with async events
    task_acks_late=True,             # acknowledged after the task ran, as weir does
    worker_prefetch_multiplier=64,   # 4 is the default; more is faster
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
_slot = None
_handled = itertools.count(1)


@worker_process_init.connect
def _take_slot(**_):
    global _slot
    from billiard import current_process
    with open(os.environ["BENCH_COUNTER"], "r+b") as f:
        memory = mmap.mmap(f.fileno(), SLOTS * 8)
    _slot = memoryview(memory).cast("Q")[current_process().index % SLOTS:]


@app.task(name="echo")
def echo(event):
    _slot[0] = next(_handled)
    return event


def send(count):
    start = time.monotonic()
    pad = "x" * 205  # with the other members: 256 bytes of JSON, as the other side's payload
    with app.producer_pool.acquire(block=True) as producer:
        for n in range(count):
            echo.apply_async(({"order": n, "customer": "c-%06d" % (n % 99991), "pad": pad},), producer=producer)
    print(time.monotonic() - start)


if __name__ == "__main__":
    send(int(sys.argv[2]))
