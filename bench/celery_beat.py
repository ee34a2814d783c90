# SPDX-License-Identifier: Apache-2.0
"""Celery beat with many crontab entries, and their task.

    celery -A celery_beat beat|worker …     environment: BENCH_AMQP, BENCH_CLOCK (the port of bench/clock.py),
                                            BENCH_DUE entries for each minute, BENCH_FAR for a day in a year's time
"""
import os
import socket
import struct
import sys
import time

from celery import Celery
from celery.schedules import crontab
from celery.signals import after_task_publish, worker_process_init

app = Celery("bench", broker=os.environ["BENCH_AMQP"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    enable_utc=True,
)
_clock = None


def _tell(tag):
    _clock.send(struct.pack("<cd", tag, time.time()))


def _connect(**_):
    global _clock
    _clock = socket.create_connection(("127.0.0.1", int(os.environ["BENCH_CLOCK"])))


worker_process_init.connect(_connect)


@app.task(name="clock")
def clock():
    _tell(b"r")


def _schedule():
    year_away = time.gmtime(time.time() + 300 * 86400)
    entries = {f"due-{n:06d}": {"task": "clock", "schedule": crontab()} for n in range(int(os.environ["BENCH_DUE"]))}
    for n in range(int(os.environ["BENCH_FAR"])):
        far = crontab(minute=str(n % 60), hour=str(n // 60 % 24), day_of_month="1", month_of_year=str(year_away.tm_mon))
        entries[f"far-{n:06d}"] = {"task": "clock", "schedule": far}
    return entries


if "beat" in sys.argv:
    app.conf.beat_schedule = _schedule()
    _connect()

    @after_task_publish.connect
    def _published(**_):
        _tell(b"q")
