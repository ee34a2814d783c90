# SPDX-License-Identifier: Apache-2.0
"""Part kafka: a preloaded topic consumed by weir, by a hand-written confluent-kafka loop, and by librdkafka alone.

All read the same topic, each time as a new group; the observer asks the broker what the group has committed. The loop and weir
run on the same librdkafka and the same Python.
"""
import tools
from kafka_bench import Topic, broker
from report import aim, ratio

# librdkafka's fetcher rests for up to a second when its queue was full; with this it never is.
UNBOUNDED = ["queued.min.messages=10000000", "queued.max.messages.kbytes=1000000"]


def run(quick):
    rounds, count = (2, 300_000) if quick else (5, 300_000)
    with broker() as url:
        topic = Topic(url, "orders", 4, count)
        sides = {
            "library": topic.library_rate,
            "loop": topic.loop_rate,
            "loop_unbounded": lambda: topic.loop_rate(*UNBOUNDED),
            "scf": lambda: topic.weir_rate("records", shape="scf", batch=500, order="key"),
            "raw": lambda: topic.weir_rate("echo", shape="raw", batch=1, order="key"),
        }
        topic.library_rate()  # the broker's first reading is not theirs to pay for
        rates = {name: [] for name in sides}
        for _ in range(rounds):
            for name, measure in sides.items():
                rates[name].append(measure())
                tools.say(f"  {name} {rates[name][-1]:,.0f}/s")
    figure = {name: tools.median(r) for name, r in rates.items()}
    return {
        "title": "Kafka to a Python function",
        "how": f"{count:,} records of 256 bytes of JSON, 10,000 keys, 4 partitions of one broker on the same machine, written "
               f"beforehand. Timed from outside by committed offsets, from a tenth to nine tenths. `order=key`; two instances. "
               f"Median of {rounds} rounds.",
        "columns": ["", "records/s"],
        "rows": [["weir, `shape=scf batch=500`, json.loads of each body", figure["scf"]],
                 ["weir, `shape=raw`, one record a call", figure["raw"]],
                 ["confluent-kafka loop: consume(1000), json.loads, asynchronous commits", figure["loop"]],
                 ["the same with a fetch queue that never fills", figure["loop_unbounded"]],
                 ["librdkafka's consumer alone, C, nothing done with them", figure["library"]]],
        "aims": [aim("`shape=scf batch=500` / loop", ratio(figure["scf"], figure["loop"]), 1, " x"),
                 aim("`shape=raw` / loop", ratio(figure["raw"], figure["loop"]), 0.6, " x"),
                 aim("`shape=scf batch=500` / loop whose queue never fills", ratio(figure["scf"], figure["loop_unbounded"]), 1, " x"),
                 aim("`shape=raw` / loop whose queue never fills", ratio(figure["raw"], figure["loop_unbounded"]), 0.6, " x")],
        "notes": ["The loop runs with librdkafka's default queue (64 MB, 100,000 records) as it is usually written. When that was full, "
                  "librdkafka 2.0 rests for up to a second; so there is a second loop whose queue takes the whole topic. It "
                  "shows what the loop's code can do, at the price of memory without a cap."],
    }
