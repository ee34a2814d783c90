# SPDX-License-Identifier: Apache-2.0
"""Part timers: 100,000 schedules on one node at rest, 10,000 of them due at once, and what one next time costs; beside Celery beat and
croniter.

The times of a burst are taken at three places: the server's counter of events that are on their queues, the rows of `fires`, and the
handlers' own clocks (bench/clock.py).
"""
import contextlib
import sys
import time

import tools
from clock import Clock
from report import aim
from server import Weir
from timer_sides import FUNCTION, Celery, Sampler, Timers, add_rate, due_settings, far_settings

sys.path.insert(0, str(tools.ROOT / "tests" / "services"))
from services import Postgres, RabbitMQ  # noqa: E402

COUNT, DUE = 100_000, 10_000
ADDED = 5000           # of them by the API, if it takes no longer than that many seconds
ADD_SECONDS = 8
PERIOD = 15            # seconds from burst to burst
CELERY_DUE = 1000      # what Celery beat can take at once
ZONE, START = "Europe/Berlin", 1767222000  # 2026-01-01 there
EXPRESSIONS = [        # crontab's form
    ("every minute", "* * * * *"), ("every 5 minutes", "*/5 * * * *"), ("every 15 s", "*/15 * * * * *"), ("hourly", "0 * * * *"),
    ("daily", "30 2 * * *"), ("thrice a day", "0 0 10,14,16 * * *"), ("weekdays", "0 9 * * 1-5"), ("monthly", "0 3 1 * *"),
    ("yearly", "0 12 1 1 *"), ("the first or a Monday in January", "0 12 1 1 1")]


def percentiles(values):
    """p50, p99, max."""
    values = sorted(values)
    return [values[len(values) // 2], values[len(values) * 99 // 100], values[-1]] if values else [None] * 3


def column_medians(rows):
    return [tools.median(column) if None not in column else None for column in zip(*rows)]


# ---- at rest ---------------------------------------------------------------------------------------------------------------

def fill(timers, name):
    """All but ADDED timers at once, those by the API; returns how many a second the API took."""
    timers.write(0, [far_settings(n) for n in range(COUNT - ADDED)])
    with timers.weir() as weir:
        added, rate = add_rate(weir, COUNT - ADDED, ADDED, ADD_SECONDS)
    if added < ADDED:
        first = COUNT - ADDED + added
        timers.write(first, [far_settings(n) for n in range(first, COUNT)])
    tools.say(f"  {name}: {added} timers added to {COUNT - ADDED:,} at {rate:,.0f}/s; all {COUNT:,} would take {COUNT / rate:,.0f} s")
    return rate


def started(stack, timers):
    """A server that has read its timers, and the seconds that took."""
    start = time.monotonic()
    weir = stack.enter_context(timers.weir())
    return weir, time.monotonic() - start


def rest(sides, mq, clock, seconds):
    """All side by side: none of them has anything to do."""
    rows = []
    rates = {name: fill(timers, name) for name, timers in sides.items()}
    with contextlib.ExitStack() as stack:
        processes = [("weir, no timers, SQLite", 0, stack.enter_context(Weir()).pid, None, None)]
        for name, timers in sides.items():
            weir, took = started(stack, timers)
            processes.append((f"weir, {name}", COUNT, weir.pid, took, rates[name]))
        with contextlib.suppress(tools.Missing):
            celery = stack.enter_context(Celery(mq.url, clock, 0, COUNT, worker=False))
            processes.append(("Celery beat", COUNT, celery.beat.pid, celery.load_seconds, None))
        time.sleep(3)
        figures = tools.at_rest([p[2] for p in processes], seconds)
    for (name, count, _, took, rate), (mib, share) in zip(processes, figures):
        rows.append([name, f"{count:,}", share, mib, took, rate])
        tools.say(f"  at rest: {name}: {share:.3f} % of a core, {mib:.1f} MiB")
    return rows


# ---- due at once -----------------------------------------------------------------------------------------------------------

def one_burst(weir, timers, clock, sampler, at, base):
    """Of the burst at that Unix time: row of figures. base: events accepted before."""
    time.sleep(max(0, at - 0.5 - time.time()))
    cpu = tools.run_ns(weir.pid)
    def over():
        return sampler.last()[1] >= base + DUE and len(clock.take(b"r", at)) >= DUE
    tools.wait_for("the fires", over, PERIOD - 1.5)
    cpu = (tools.run_ns(weir.pid) - cpu) / 1e9
    ran = sorted(told - at for told in clock.take(b"r", at))
    if len(ran) != DUE:
        raise RuntimeError(f"{len(ran)} runs of {DUE} fires")
    lags = timers.lags(at * 1000)
    if len(lags) != DUE:
        raise RuntimeError(f"{len(lags)} rows of {DUE} fires")
    queued = sampler.accepted_at(base + DUE) - at
    answers = [took * 1000 for asked, took in sampler.latencies if at <= asked <= at + ran[-1]]
    tools.say(f"  all on the queue after {queued:.2f} s, all run after {ran[-1]:.2f} s, decided within {lags[-1]} ms; "
              f"/healthz {percentiles(answers)[2]:.0f} ms at most; {cpu:.2f} s of processor time")
    return [queued, ran[-1], *percentiles(lags), *percentiles(told * 1000 for told in ran), *percentiles(answers), cpu]


def bursts(timers, clock, rounds):
    """DUE of the timers become due together `rounds` times."""
    at = (int(time.time()) + 12) // PERIOD * PERIOD + PERIOD
    timers.write(0, [due_settings(PERIOD, at)] * DUE)
    with timers.weir() as weir:
        for _ in range(2):
            weir.invoke(FUNCTION)
        if time.time() > at - 2:
            raise RuntimeError("the server was not ready in time")
        base = weir.metric("weir_events_accepted_total", function=FUNCTION)
        with Sampler(weir) as sampler:
            rows = [one_burst(weir, timers, clock, sampler, at + n * PERIOD, base + n * DUE) for n in range(rounds)]
    return column_medians(rows)


def celery_burst(mq, clock, due, far, seconds):
    """Entries due at a full minute: a row as one_burst's, and how many ran a second."""
    with Celery(mq.url, clock, due, far):
        if time.time() % 60 > 57:
            time.sleep(4)  # the worker starts
        at = int(time.time()) // 60 * 60 + 60
        time.sleep(at - time.time())
        with contextlib.suppress(RuntimeError):
            tools.wait_for("Celery", lambda: len(clock.take(b"r", at)) >= due, seconds, 0.1)
    sent, ran = ([told - at for told in sorted(clock.take(tag, at))] for tag in (b"q", b"r"))
    tools.say(f"  Celery, {due:,} due of {due + far:,}: {len(ran):,} ran within {ran[-1] if ran else seconds:.2f} s")
    whole = len(ran) == due
    figures = [sent[-1] if whole else None, ran[-1] if whole else f"{len(ran)} ran in {seconds}", None, None, None]
    figures += percentiles([t * 1000 for t in ran]) if whole else [None] * 3
    return figures + [None] * 4, len(ran) / (ran[-1] if ran else seconds)


def celery_rows(mq, clock, seconds):
    rows, notes = [], []
    try:
        figures, _ = celery_burst(mq, clock, CELERY_DUE, 0, 20)
        rows.append([f"Celery beat and worker, RabbitMQ, {CELERY_DUE:,} of {CELERY_DUE:,}", *figures])
        figures, rate = celery_burst(mq, clock, DUE, COUNT - DUE, seconds)
        rows.append([f"the same, {DUE:,} of {COUNT:,}", *figures])
        notes.append(f"Celery beat compares its whole schedule before each task that it sends: with {COUNT:,} entries it sent {rate:.1f} a "
                     f"second, so {DUE:,} would take {DUE / rate / 60:,.0f} minutes, and they are due again after one. Hence a row with as "
                     f"many as it can take.")
    except (tools.Missing, RuntimeError) as e:
        notes.append(f"Celery beat was left out: {e}")
    return rows, notes


# ---- one next time ---------------------------------------------------------------------------------------------------------

def next_times(quick):
    tools.debian("python3-croniter")
    program = tools.compiled("cron_next", "glib-2.0", "rdkafka", archives=[tools.WEIR.parent / "libweir.a"])
    texts, few = [text for _, text in EXPRESSIONS], 60
    def lines(*argv):
        return [(float(ns), int(last)) for ns, last in map(str.split, tools.run(argv).splitlines())]
    ours = lines(program, ZONE, START, 2_000 if quick else 20_000, *texts)
    theirs = lines(tools.PYTHON, tools.HERE / "cron_next.py", ZONE, START, few, *texts)
    ends = lines(program, ZONE, START, few, *texts)
    differ = [what for (what, _), a, b in zip(EXPRESSIONS, ends, theirs) if a[1] != b[1]]
    rows = [[f"{what}: `{text}`", a[0], b[0], b[0] / a[0]] for (what, text), a, b in zip(EXPRESSIONS, ours, theirs)]
    return rows, [f"After {few} next times croniter is elsewhere than weir for: {', '.join(differ)}."] if differ else []


# ---- the part --------------------------------------------------------------------------------------------------------------

def run(quick):
    rounds, rest_seconds, patience = (1, 5, 8) if quick else (5, 30, 20)
    next_rows, notes = next_times(quick)
    tools.say(f"  one next time: {min(r[1] for r in next_rows):.0f} to {max(r[1] for r in next_rows):.0f} ns, croniter "
              f"{min(r[2] for r in next_rows):,.0f} to {max(r[2] for r in next_rows):,.0f} ns")
    with contextlib.ExitStack() as stack:
        clock, db, mq = (stack.enter_context(x) for x in (Clock(), Postgres(), RabbitMQ()))
        sides = {"SQLite, embedded queue": Timers(clock.handler()), "PostgreSQL, RabbitMQ": Timers(clock.handler(), db.url, mq.url)}
        for timers in sides.values():
            stack.callback(timers.close)
        rest_rows = rest(sides, mq, clock, rest_seconds)
        burst_rows = []
        for name, timers in sides.items():
            tools.say(f"  {name}, {DUE:,} of {COUNT:,} due:")
            burst_rows.append([f"weir, {name}, {DUE:,} of {COUNT:,}", *bursts(timers, clock, rounds)])
        rows, more = celery_rows(mq, clock, patience)
    burst_rows += rows
    notes += more
    rate = rest_rows[1][5], rest_rows[2][5]
    return {
        "title": "Timers",
        "how": f"{COUNT:,} schedules in five zones, next due in 300 days, over {rest_seconds} s, all processes side by side. Of weir the "
               "server's own process.",
        "columns": ["at rest", "schedules", "% of a core", "MiB", "s to start", "added/s by the API"],
        "rows": rest_rows,
        "more": [
            [f"{DUE:,} of the {COUNT:,} become due together, every {PERIOD} s; a Python handler that tells its clock. Median of {rounds} "
             f"round{'s' if rounds > 1 else ''}. *Decided* is `fired_ms - scheduled_ms` of the rows, *handler* its own clock, both in ms "
             "after the scheduled time; `/healthz`, asked every 5 ms meanwhile, in ms too. Processor time is that of the server.",
             ["due at once", "s until all are on the queue", "s until all have run", "decided p50", "p99", "max", "handler p50", "p99",
              "max", "/healthz p50", "p99", "max", "s of processor time"], burst_rows],
            [f"The next time of an expression in {ZONE}, one call after the other.", ["", "weir, ns", "croniter, ns", "ratio"], next_rows]],
        "aims": [aim(f"share of a core at rest, {row[0][6:]}", row[2], 1, " %", most=True) for row in rest_rows[1:3]]
                + [aim(f"all on the queue, {row[0][6:]}", row[1], 1, " s", most=True) for row in burst_rows[:2]]
                + [aim("slowest next time of those above", max(row[1] for row in next_rows) / 1000, 2, " µs", most=True)],
        "notes": [f"Adding all {COUNT:,} one by one by the API would take {COUNT / rate[0] / 60:,.1f} minutes on SQLite and "
                  f"{COUNT / rate[1] / 60:,.1f} on PostgreSQL, at the rate of the last {ADDED:,}. The others were written into the "
                  "store."] + notes,
    }
