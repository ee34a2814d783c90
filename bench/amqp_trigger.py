# SPDX-License-Identifier: Apache-2.0
"""Part amqp-trigger: a preloaded quorum queue of somebody's drained by an AMQP trigger, by a pika loop, by PerfTest.

As async-amqp (the same queue type, messages, observer), but the queue is consumed in place, by `weir serve` with its embedded
queue and a trigger.
"""
import shutil

import tools
from async_amqp import PREFETCH, Bench
from async_embedded import RabbitMQ
from report import aim, ratio
from server import Weir

SIDES = ["scf", "scf_fixed", "raw", "pika", "perf_test"]


class TriggerBench(Bench):
    queue = "bench.orders"

    def weir(self):
        return Weir(keep=self.data)

    def prepare(self):
        with self.weir() as w:
            w.deploy("records", "records")
            w.deploy("echo", "echo")

    def add_trigger(self, weir, function, **settings):
        return weir.call("POST", "/v1/triggers", {"function": function, "kind": "amqp", "settings": {
            "url": self.url, "queue": self.queue, **settings}})["name"]

    def drain_trigger(self, function, payload, **settings):
        with self.weir() as w:
            w.invoke(function, payload)
            done = w.metric("weir_events_ok_total", function=function)
            observer = self.observe()
            name = self.add_trigger(w, function, **settings)
            rate = self.rate(observer)
            w.wait_metric("weir_events_ok_total", done + self.count, 30, function=function)
            w.call("DELETE", f"/v1/triggers/{name}")
        return rate

    def drain_scf(self):
        return self.drain_trigger("records", b'{"Records":[]}', shape="scf", batch=500)

    def drain_scf_fixed(self):
        return self.drain_trigger("records", b'{"Records":[]}', shape="scf", batch=500, prefetch=PREFETCH)

    def drain_raw(self):
        return self.drain_trigger("echo", b"{}", shape="raw", batch=1)


def run(quick):
    rounds, count = (2, 60_000) if quick else (3, 200_000)
    sides, notes = list(SIDES), []
    for name, install in ("pika", tools.venv), ("perf_test", tools.perf_test):
        try:
            install()
        except tools.Missing as e:
            notes.append(f"{name} was left out: {e}")
            sides.remove(name)
    rates = {name: [] for name in SIDES}
    with RabbitMQ() as mq:
        bench = TriggerBench(mq.url, count)
        bench.prepare()
        for _ in range(rounds):
            for name in sides:
                bench.fill()
                rates[name].append(getattr(bench, f"drain_{name}")())
                tools.say(f"  {name} drains {rates[name][-1]:,.0f}/s")
        shutil.rmtree(bench.data, ignore_errors=True)
    figure = {name: tools.median(r) if r else None for name, r in rates.items()}
    return {
        "title": "An AMQP queue to a Python function",
        "how": f"Draining a quorum queue of {count:,} messages of 256 bytes; the last nine tenths are timed from outside. Weir: a "
               f"trigger with `prefetch=auto`, two instances; the others have a prefetch of {PREFETCH}. Median of {rounds} rounds.",
        "columns": ["", "messages/s"],
        "rows": [["weir, `shape=scf batch=500`, json.loads of each body", figure["scf"]],
                 [f"the same with `prefetch={PREFETCH}`", figure["scf_fixed"]],
                 ["weir, `shape=raw`, one message a call", figure["raw"]],
                 ["pika consumer (json.loads, handler, ack every 100)", figure["pika"]],
                 ["PerfTest consumer (counts only, ack every 100)", figure["perf_test"]]],
        "aims": [aim("`shape=scf batch=500` / PerfTest", ratio(figure["scf"], figure["perf_test"]), 0.9, " x"),
                 aim("`shape=scf batch=500` / pika", ratio(figure["scf"], figure["pika"]), 3, " x"),
                 aim("`shape=raw` / PerfTest", ratio(figure["raw"], figure["perf_test"]), 0.9, " x"),
                 aim("`shape=raw` / pika", ratio(figure["raw"], figure["pika"]), 3, " x")],
        "notes": notes,
    }
