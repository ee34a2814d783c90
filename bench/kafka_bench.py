# SPDX-License-Identifier: Apache-2.0
"""What the parts about Kafka share: a broker at full speed, topics that are filled once, and drains by a group of their own each
time, timed from outside by what the group has committed (kafka_tool.c).
"""
import contextlib
import itertools
import os
import pathlib
import re
import subprocess
import sys

import tools
from server import Weir

sys.path.insert(0, str(tools.ROOT / "tests" / "services"))
from services import Kafka  # noqa: E402

COMMIT = "100ms"  # weir's shortest; a commit is where the observer sees how far it is
_groups = itertools.count(1)


def new_group():
    return f"bench-{next(_groups)}"


@contextlib.contextmanager
def broker():
    """A Kafka whose JVM is not held back as that of the tests is."""
    tools.debian("python3-confluent-kafka", "librdkafka-dev", "default-jre-headless", "maven")
    os.environ["WEIR_TEST_KAFKA_JAVA_OPTS"] = ""
    os.environ.setdefault("WEIR_TEST_KAFKA_HEAP", "2g")
    with Kafka() as kafka:
        yield kafka.url


class Topic:
    """`count` records of `size` bytes of JSON in `partitions`, with `keys` different keys."""

    def __init__(self, url, name, partitions, count, size=256, keys=10_000):
        self.url, self.name, self.partitions, self.count = url, name, partitions, count
        self.tool = tools.compiled("kafka_tool", "rdkafka")
        tools.run([self.tool, "fill", url, name, partitions, count, size, keys])

    def window(self, first=0.1, last=0.9):
        """Which records are timed: neither the start nor the last commit are the consumer's own speed."""
        return int(self.count * first), int(self.count * last)

    def library_rate(self):
        """librdkafka's own consumer, by its own clock."""
        records, seconds = tools.run([self.tool, "consume", self.url, self.name, new_group(), *self.window()], timeout=90).split()
        return int(records) / float(seconds)

    def watch(self, group, window, seconds):
        argv = [self.tool, "watch", self.url, self.name, group, self.partitions, *window, seconds]
        return tools.spawn(argv, log="kafka-watch", stdout=subprocess.PIPE, text=True)

    @staticmethod
    def rate(watcher, seconds, alive=None):
        """Of a watch. `alive` is the process whose end is a failure."""
        tools.wait_for("the end of the records", lambda: watcher.poll() is not None or (alive and alive.poll()), seconds + 5)
        if watcher.poll() is None:
            tools.end(watcher, 1)
            raise RuntimeError("the consumer failed; see build/bench/log")
        out = watcher.stdout.read()
        if watcher.returncode:
            raise RuntimeError("the records did not get through; see build/bench/log/kafka-watch.log")
        records, took = out.split()
        return int(records) / float(took)

    def loop_rate(self, *settings):
        """The hand-written loop."""
        group, seconds = new_group(), 60
        watcher = self.watch(group, self.window(), seconds)
        loop = tools.spawn([tools.PYTHON, "kafka_loop.py", self.url, self.name, group, self.count, *settings], log="kafka-loop",
                           cwd=tools.HERE)
        try:
            return self.rate(watcher, seconds, loop)
        finally:
            tools.end(loop, 3)

    def add_trigger(self, weir, function, group, **settings):
        weir.call("POST", "/v1/triggers", {"function": function, "kind": "kafka", "settings": {
            "brokers": self.url, "topic": self.name, "group": group, "from": "earliest", "commit": COMMIT, **settings}})

    def weir_rate(self, source, window=None, seconds=60, server=(), function=None, **settings):
        """A server of its own with one function and one trigger."""
        group = new_group()
        with Weir(*server) as weir:
            weir.deploy("bench", source, **(function or {}))
            weir.invoke("bench", b'{"Records":[]}')
            watcher = self.watch(group, window or self.window(), seconds)
            self.add_trigger(weir, "bench", group, **settings)
            rate = self.rate(watcher, seconds, weir.child)
            for name in "weir_attempts_failed_total", "weir_letters_dead_total":
                if weir.metric(name):
                    raise RuntimeError(f"{name} is {weir.metric(name):.0f}")
        return rate


def memory(pid, name):
    """VmRSS, VmHWM of a process, in MiB."""
    return int(re.search(rf"^{name}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)) / 1024
