# SPDX-License-Identifier: Apache-2.0
"""Part async-embedded: events accepted and handled end to end, beside Celery with RabbitMQ.

Sender and handlers run at the same time; the clock runs from the first request until the last event was handled. Weir
answers a request when its events are durable; Celery's publisher (as by default) does not wait for the broker.
"""
import contextlib
import pathlib
import signal
import subprocess
import sys
import time

import tools
from report import aim, ratio
from server import Feeder, Weir, batches

sys.path.insert(0, str(tools.ROOT / "tests" / "services"))
from services import RabbitMQ  # noqa: E402

LINES = 1000  # events a request


def weir_batches(weir, count, base):
    done = weir.metric("weir_events_ok_total", function="echo")
    feeder = Feeder(weir, "echo", batches(count, LINES, base))
    start = time.monotonic()
    feeder.start()
    feeder.join()
    accepted = time.monotonic() - start
    end = weir.wait_metric("weir_events_ok_total", done + count, 120, function="echo")
    return count / (end - start), count / accepted


def weir_single(weir, seconds):
    """One event a request over 32 kept connections: the rate until the last one was handled."""
    done = weir.metric("weir_events_ok_total", function="echo")
    start = time.monotonic()
    out = tools.run([tools.wrk(), "-t1", "-c32", f"-d{seconds}", "-s", tools.HERE / "post.lua",
                     f"http://127.0.0.1:{weir.port}/v1/functions/echo/invocations?invokeType=Event"])
    sent, bad = map(int, out.rsplit("RESULT", 1)[1].split()[3:])
    if bad:
        raise RuntimeError(f"{bad} of {sent} requests failed")
    # wrk forgets what was under way at its end: all of that is accepted, too.
    tools.wait_for("the last events", lambda: weir.metric("weir_events_ok_total", function="echo") >= done + sent, 120)
    return sent / (time.monotonic() - start)


class Celery:
    def __init__(self, url):
        self.programs = tools.venv()
        self.counter = pathlib.Path(tools.CACHE / "celery.count")
        self.counter.write_bytes(bytes(64 * 8))
        self.env = {"PATH": tools.PLAIN_PATH, "HOME": "/tmp", "BENCH_AMQP": url, "BENCH_COUNTER": str(self.counter)}
        self.child = None

    def __enter__(self):
        self.child = tools.spawn(
            [self.programs / "celery", "-A", "celery_app", "worker", "-P", "prefork", "-c", "2", "-l", "WARNING",
             "--without-gossip", "--without-mingle", "--without-heartbeat"], log="celery", env=self.env, cwd=tools.HERE)
        self._send(20)
        tools.wait_for("celery", lambda: self.handled() >= 20, 60)
        return self

    def __exit__(self, *_):
        tools.end(self.child)

    def handled(self):
        data = memoryview(self.counter.read_bytes()).cast("Q")
        return sum(data)

    def _send(self, count):
        argv = [str(self.programs / "python3"), "celery_app.py", "send", str(count)]
        return subprocess.Popen(argv, env=self.env, cwd=tools.HERE, stdout=subprocess.PIPE, text=True)

    def rate(self, count):
        """The sender's start (imports) is not counted: its own clock says when it began."""
        before = self.handled()
        sender = self._send(count)
        out = sender.communicate(timeout=300)[0]
        sent_at = time.monotonic()
        start = sent_at - float(out)
        tools.wait_for("celery's tasks", lambda: self.handled() >= before + count, 300)
        end = time.monotonic()
        return count / (end - start), count / float(out)


    def drain_rate(self, count):
        """The worker alone: it stands still while the tasks are sent, so the publisher costs it nothing."""
        before = self.handled()
        self.child.send_signal(signal.SIGSTOP)
        try:
            self._send(count).communicate(timeout=300)
        finally:
            self.child.send_signal(signal.SIGCONT)
        start = time.monotonic()
        begun = self.handled() - before  # its processes finish what they hold
        tools.wait_for("celery's tasks", lambda: self.handled() >= before + count, 300)
        return (count - begun) / (time.monotonic() - start)


def run(quick):
    rounds, count, tasks, seconds = (2, 60_000, 3_000, 2) if quick else (3, 200_000, 10_000, 5)
    batch, accept, single, celery, celery_sent, celery_alone, notes = [], [], [], [], [], [], []
    with contextlib.ExitStack() as stack:
        weir = stack.enter_context(Weir())
        weir.deploy("echo", "echo")
        worker = None
        try:
            tools.venv()
            mq = stack.enter_context(RabbitMQ())
            worker = stack.enter_context(Celery(mq.url))
        except (tools.Missing, RuntimeError) as e:
            notes.append(f"Celery was left out: {e}")
        weir_batches(weir, 10_000, 0)
        for n in range(rounds):
            rate, accepted = weir_batches(weir, count, n * count)
            batch.append(rate)
            accept.append(accepted)
            single.append(weir_single(weir, seconds))
            tools.say(f"  weir {rate:,.0f}/s in batches (accepted {accepted:,.0f}/s), {single[-1]:,.0f}/s one a request")
            if worker:
                rate, sent = worker.rate(tasks)
                celery.append(rate)
                celery_sent.append(sent)
                celery_alone.append(worker.drain_rate(tasks))
                tools.say(f"  Celery {rate:,.0f}/s (sent {sent:,.0f}/s); its worker alone {celery_alone[-1]:,.0f}/s")
    weir_rate, celery_rate = tools.median(batch), tools.median(celery) if celery else None
    return {
        "title": "Async events, embedded queue",
        "how": "A Python handler that returns its event; 256 bytes of JSON; two instances. Weir: `weir serve` with no options, "
               f"sent over HTTP. Celery: RabbitMQ, durable queue, `acks_late`, prefork with 2 processes. Median of {rounds} rounds.",
        "columns": ["", "handled/s", "accepted/s"],
        "rows": [
            [f"weir, {LINES} events a request (`each=line`), 2 connections", weir_rate, tools.median(accept)],
            ["weir, 1 event a request, 32 connections", tools.median(single), None],
            ["Celery", celery_rate, tools.median(celery_sent) if celery else None],
            ["Celery, worker alone on what was sent before", tools.median(celery_alone) if celery else None, None],
        ],
        "aims": [aim("weir in batches / Celery", ratio(weir_rate, celery_rate), 30, " x")],
        "notes": notes + ["Weir syncs every batch to disk before it answers. Celery's publisher does not wait for RabbitMQ "
                          "(its default); waiting would make it slower."],
    }
