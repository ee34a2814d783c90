# SPDX-License-Identifier: Apache-2.0
"""Part async-amqp: how fast a preloaded quorum queue is drained, by weir, by a hand-written pika consumer, by PerfTest.

All drain the same queue name with the same messages and the same prefetch; the broker is asked by the same observer
(amqp.c) how much is left. Weir runs the Python handler for each message, pika parses each, PerfTest only counts.
"""
import shutil
import subprocess
import tempfile

import tools
from async_embedded import RabbitMQ
from report import aim, ratio
from server import Weir

QUEUE, PREFETCH = "weir.fn.echo", 1000


class Bench:
    queue = QUEUE

    def __init__(self, url, count):
        self.url, self.count = url, count
        self.tool = tools.compiled("amqp", "librabbitmq")
        self.data = tempfile.mkdtemp(prefix="weir-bench-")

    def weir(self):
        return Weir("--queue", self.url, "--credit", PREFETCH, keep=self.data)

    def prepare(self):
        with self.weir() as w:
            w.deploy("echo", "echo")
            w.invoke("echo")

    def fill(self):
        tools.run([self.tool, "fill", self.url, self.queue, self.count, 256])

    def observe(self):
        return subprocess.Popen([str(self.tool), "drain", self.url, self.queue, str(self.count)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    @staticmethod
    def rate(observer):
        out, err = observer.communicate(timeout=150)
        if observer.returncode:
            raise RuntimeError(err.strip())
        messages, seconds = out.split()
        return int(messages) / float(seconds)

    def drain_weir(self):
        observer = self.observe()
        with self.weir() as w:
            rate = self.rate(observer)
            w.wait_metric("weir_events_ok_total", self.count, 30, function="echo")
        return rate

    def drain_command(self, argv, log):
        observer = self.observe()
        child = tools.spawn(argv, log=log, cwd=tools.HERE)
        try:
            return self.rate(observer)
        finally:
            tools.end(child)

    def drain_pika(self, ack_every=100):
        return self.drain_command([tools.venv() / "python3", "pika_drain.py", self.url, self.queue, self.count, ack_every], "pika")

    def drain_pika_each(self):
        return self.drain_pika(1)

    def drain_perf_test(self):
        return self.drain_command(
            # To the Java client an empty path is a virtual host without a name.
            [*tools.perf_test(), "-h", self.url.rstrip("/") + "/%2f", "-u", self.queue, "-p", "-sb", "-x", "0", "-y", "1", "-q", PREFETCH, "-A", "100",
             "-D", self.count], "perf-test")


def run(quick):
    rounds, count = (2, 60_000) if quick else (3, 200_000)
    sides = ["weir", "pika", "pika_each", "perf_test"]
    rates, notes = {name: [] for name in sides}, []
    for name, install in ("pika", tools.venv), ("pika_each", tools.venv), ("perf_test", tools.perf_test):
        try:
            install()
        except tools.Missing as e:
            notes.append(f"{name} was left out: {e}")
            sides.remove(name)
    with RabbitMQ() as mq:
        bench = Bench(mq.url, count)
        bench.prepare()
        for _ in range(rounds):
            for name in sides:
                bench.fill()
                rates[name].append(getattr(bench, f"drain_{name}")())
                tools.say(f"  {name} drains {rates[name][-1]:,.0f}/s")
        shutil.rmtree(bench.data, ignore_errors=True)
    figure = {name: tools.median(r) if r else None for name, r in rates.items()}
    return {
        "title": "Async events, RabbitMQ",
        "how": f"Draining a quorum queue of {count:,} messages of 256 bytes, prefetch {PREFETCH}; the last nine tenths are timed "
               f"from outside. Median of {rounds} rounds.",
        "columns": ["", "messages/s"],
        "rows": [["weir (Python handler, two instances)", figure["weir"]],
                 ["pika consumer (json.loads, handler, ack every 100)", figure["pika"]],
                 ["the same, ack for each message", figure["pika_each"]],
                 ["PerfTest consumer (counts only, ack every 100)", figure["perf_test"]]],
        "aims": [aim("weir / PerfTest", ratio(figure["weir"], figure["perf_test"]), 0.9, " x"),
                 aim("weir / pika", ratio(figure["weir"], figure["pika"]), 3, " x")],
        "notes": notes + ["pika with an ack for each message is what its examples do; the aim is held against the better one."],
    }
