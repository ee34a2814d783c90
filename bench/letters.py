# SPDX-License-Identifier: Apache-2.0
"""Part letters: events that fail into PostgreSQL, and replays out of it.

Each event fails once (retries 0) and is then a dead letter; the clock runs from the first request until SQL counts them
all. Then a handler that works is deployed, and the letters are replayed 1,000 a request, as `weir dlq replay` does; the clock
runs until SQL counts them all as replayed.
"""
import subprocess
import sys
import time

import tools
from report import aim
from server import Feeder, Replay, Weir, batches

sys.path.insert(0, str(tools.ROOT / "tests" / "services"))
from services import Postgres, RabbitMQ  # noqa: E402


def count_letters(url, function, state):
    done = subprocess.run(["psql", "-qAtX", url, "-c",
                           f"select count(*) from letters where function = '{function}' and state = '{state}'"],
                          stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return int(done.stdout)


def fail_all(weir, url, name, count):
    feeder = Feeder(weir, name, batches(count, 1000))
    start = time.monotonic()
    feeder.start()
    feeder.join()
    weir.wait_metric("weir_letters_dead_total", count, 200, function=name)
    tools.wait_for("the letters", lambda: count_letters(url, name, "dead") >= count, 60, 0.02)
    return count / (time.monotonic() - start)


def replay_all(weir, name, count):
    start = time.monotonic()
    replay = Replay(weir, {"function": name})
    if replay.total != count:
        raise RuntimeError(f"the replay has {replay.total} letters, not {count}")
    return count / (replay.wait_sent(120) - start), count / (replay.wait_ok(120) - start)


def one_round(weir, url, name, count):
    weir.deploy(name, "fail", retries=0)
    dead = fail_all(weir, url, name, count)
    weir.deploy(name, "echo", retries=0)
    replayed, handled = replay_all(weir, name, count)
    tools.say(f"  {dead:,.0f} letters/s, {replayed:,.0f} replays/s (all outcomes known: {handled:,.0f}/s)")
    return dead, replayed, handled


def run(quick):
    rounds, count = (1, 20_000) if quick else (3, 60_000)
    with Postgres() as db, RabbitMQ() as mq:
        figures = {}
        for queue, options in ("embedded", []), ("RabbitMQ", ["--queue", mq.url]):
            with Weir("--store", db.url, *options) as weir:
                tools.say(f"  queue: {queue}")
                found = [one_round(weir, db.url, f"{queue.lower()}-{n}", count) for n in range(rounds)]
            figures[queue] = [tools.median(column) for column in zip(*found)]
    embedded = figures["embedded"]
    return {
        "title": "Dead letters in PostgreSQL",
        "how": f"{count:,} events of 256 bytes that all fail, no retries, so that each is one dead letter; then one replay sends all back. "
               f"PostgreSQL with fsync. Median of {rounds} round{'s' if rounds > 1 else ''}.",
        "columns": ["queue", "letters/s", "replays/s", "replays with outcome/s"],
        "rows": [[queue, *values] for queue, values in figures.items()],
        "aims": [aim("letters a second, embedded queue", embedded[0], 20_000, "/s"),
                 aim("replays a second, embedded queue", embedded[1], 10_000, "/s")],
        "notes": ["Each letter carries the traceback of its attempt. A letter counts when a SELECT sees it, a replay when its letter "
                  "is marked (its event is on the queue again by then), and with its outcome when that is written, too."],
    }
