# SPDX-License-Identifier: Apache-2.0
"""Part kafka-wait: a handler that waits 5 ms, on one partition: one call at a time against one call at a time for each key."""
import tools
from kafka_bench import Topic, broker
from report import aim, ratio

INSTANCES = 64


def run(quick):
    rounds, count, few = (1, 20_000, 400) if quick else (3, 40_000, 400)
    server = ["--max-instances", INSTANCES + 8]
    with broker() as url:
        topic = Topic(url, "waits", 1, count)
        common = {"server": server, "function": {"maxInstances": INSTANCES}, "shape": "raw", "batch": 1}
        by_key, by_partition = [], []
        for _ in range(rounds):
            # The first half is the time in which the instances start.
            by_key.append(topic.weir_rate("wait", topic.window(0.5, 0.95), order="key", **common))
            by_partition.append(topic.weir_rate("wait", (few // 10, few), order="partition", **common))
            tools.say(f"  order=key {by_key[-1]:,.0f}/s, order=partition {by_partition[-1]:,.0f}/s")
    key, partition = tools.median(by_key), tools.median(by_partition)
    return {
        "title": "Kafka to a function that waits",
        "how": f"A handler that sleeps 5 ms, one record a call, one partition with 10,000 keys, {INSTANCES} instances. Timed by "
               f"committed offsets: with `order=key` the second half of {count:,} records, with `order=partition` the first "
               f"{few}. Median of {rounds} round{'s' if rounds > 1 else ''}.",
        "columns": ["", "records/s"],
        "rows": [["`order=key`", key], ["`order=partition`", partition],
                 [f"{INSTANCES} instances that do nothing but wait", INSTANCES / 0.005]],
        "aims": [aim("`order=key` / `order=partition`", ratio(key, partition), 50, " x")],
        "notes": [],
    }
