# SPDX-License-Identifier: Apache-2.0
"""Part kafka-memory: the server's memory while it consumes from a topic with a large backlog, with a slow function and with a
fast one.
"""
import time

import tools
from kafka_bench import Topic, broker, memory, new_group
from report import aim
from server import Weir

CAP_MIB = 64  # max_bytes of a trigger by default


def consume(topic, source, seconds):
    """Resident MiB before the trigger, the peak while it consumes, and records done a second."""
    with Weir() as weir:
        weir.deploy("bench", source)
        weir.invoke("bench", b'{"Records":[]}')
        time.sleep(1)
        idle, before = memory(weir.pid, "VmRSS"), weir.metric("weir_events_ok_total")
        topic.add_trigger(weir, "bench", new_group(), shape="scf", batch=100)
        start, seen = time.monotonic(), 0
        while time.monotonic() < start + seconds:
            time.sleep(0.1)
            seen = max(seen, memory(weir.pid, "VmRSS"))
        done = weir.metric("weir_events_ok_total") - before
        peak = max(seen, memory(weir.pid, "VmHWM"))
    if done < 1000:
        raise RuntimeError(f"only {done:.0f} records were consumed: that proves nothing")
    tools.say(f"  {source}: {idle:.1f} MiB idle, {peak:.1f} MiB peak (sampled {seen:.1f}), {done / seconds:,.0f} records/s")
    return idle, peak, done / seconds, done >= topic.count


def run(quick):
    count, seconds = (500_000, 6) if quick else (5_000_000, 20)
    with broker() as url:
        topic = Topic(url, "backlog", 4, count, size=100)
        slow = consume(topic, "slow_batch", seconds)
        fast = consume(topic, "records", seconds)
    more = max(slow[1] - slow[0], fast[1] - fast[0])
    return {
        "title": "Kafka, memory with a backlog",
        "how": f"{count:,} records of 100 bytes in 4 partitions; `shape=scf batch=100`; {seconds} s each. Resident memory of the "
               "server's process (VmHWM), instances not included. Once.",
        "columns": ["", "MiB before", "MiB peak", "MiB more", "records/s"],
        "rows": [["a function that sleeps 20 ms a call", slow[0], slow[1], slow[1] - slow[0], slow[2]],
                 ["a function that parses each body", fast[0], fast[1], fast[1] - fast[0], fast[2]]],
        "aims": [aim("memory for the trigger", more, CAP_MIB, " MiB", most=True)],
        "notes": [f"The cap is `max_bytes`, {CAP_MIB} MiB by default."]
                 + (["The fast function came to the end of the topic."] if fast[3] else []),
    }
