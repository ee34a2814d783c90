# SPDX-License-Identifier: Apache-2.0
"""Part dlq: a store with a million dead letters. Lists, groups and searches as a user waits for them, over HTTP, beside the same
questions by hand; new letters; replays of 100,000 letters, beside a consumer that moves as many messages from queue to queue; and the
server's memory meanwhile.
"""
import contextlib
import http.client
import json
import random
import sys
import tempfile
import threading
import time
import urllib.parse

import dlq_sql as by_hand
import tools
from report import aim, ratio
from server import Feeder, Replay, Weir, batches

sys.path.insert(0, str(tools.ROOT / "tests" / "services"))
from services import Postgres, RabbitMQ  # noqa: E402

FUNCTIONS = ["orders", "payments", "invoices", "shipping", "refunds", "accounts", "search", "prices", "stock", "mail",
             "reports", "images", "exports", "imports", "alerts", "carts", "coupons", "returns", "reviews", "taxes"]
ERRORS = ["KeyError", "ValueError", "TypeError", "TimeoutError", "OSError", "ConnectionError", "RuntimeError", "LookupError"]
HOUR_MS = 3_600_000
CUSTOMERS = 49_999
LIBRARIES = ["libevent", "libpq", "sqlite3", "jansson", "msgpack", "libcrypto", "glib-2.0", "rdkafka"]
SETTINGS = "shared_buffers = 1GB\nmax_wal_size = 4GB\n"
MEMORY_MIB = 96  # of which SQLite's page caches take 48: the store's writer, its reader, the queue


# ---- the stores --------------------------------------------------------------------------------------------------------

def fill(url, count):
    program = tools.compiled("dlq_fill", *LIBRARIES, archives=[tools.WEIR.parent / "libweir.a"])
    rate = float(tools.run([program, url, count], timeout=1800))
    tools.say(f"  {count:,} letters written into the store, {rate:,.0f}/s")


def settle(url):
    """What autovacuum and the checkpointer do in time, done now: each measurement begins alike."""
    for command in "vacuum analyze", "checkpoint":
        tools.run(["psql", "-qAtX", url, "-c", command], timeout=900)


@contextlib.contextmanager
def postgres(count):
    with Postgres() as db:
        with open(db.dir / "data/postgresql.conf", "a") as conf:
            conf.write(SETTINGS)
        db.restart()
        fill(db.url, count)
        settle(db.url)
        yield db.url


@contextlib.contextmanager
def sqlite(count):
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
        url = f"sqlite:{folder}/weir.db"
        fill(url, count)
        yield url


# ---- asking ------------------------------------------------------------------------------------------------------------

class Asker:
    """GET over one kept connection: (milliseconds, the answer's JSON)."""

    def __init__(self, weir):
        self.conn = http.client.HTTPConnection("127.0.0.1", weir.port, timeout=120)

    def get(self, path, **query):
        start = time.perf_counter()
        self.conn.request("GET", path + "?" + urllib.parse.urlencode(query))
        answer = self.conn.getresponse()
        data = answer.read()
        took = (time.perf_counter() - start) * 1000
        if answer.status != 200:
            raise RuntimeError(f"{path} {query}: {answer.status} {data[:300]!r}")
        return took, json.loads(data)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def mix(session, groups, now_ms):
    """Name of a question, and what makes one: (query, SQL). Each finds at least a page."""
    draw = random.Random(7)

    def since():
        return now_ms - draw.randint(2, 20) * HOUR_MS

    def one(query, *conditions):
        return query, by_hand.listing(*conditions)

    def of_function():
        name = draw.choice(FUNCTIONS)
        return one({"function": name}, by_hand.function(name))

    def of_group():
        name = draw.choice(groups)
        return one({"group": name}, by_hand.group(name))

    def of_error():
        name = draw.choice(ERRORS)
        return one({"error": name}, by_hand.error(name))

    def of_period():
        at = since()
        return one({"sinceMs": at}, by_hand.since(at))

    def of_source():
        topic, partition = draw.choice(FUNCTIONS), draw.randrange(12)
        return one({"source": f"kafka:{topic}/{partition}"}, by_hand.source(topic, partition))

    def of_header():
        tenant = f"t-{draw.randrange(100)}"
        return one({"where": f'headers.x-tenant = "{tenant}"'}, session.header.format("x-tenant", tenant))

    def of_amount():
        least = draw.randint(100, 990)
        return one({"where": f"payload.amount > {least}"}, session.amount.format(least))

    def of_function_amount_period():
        name, least, at = draw.choice(FUNCTIONS), draw.randint(100, 900), since()
        return one({"function": name, "sinceMs": at, "where": f"payload.amount > {least}"},
                   by_hand.function(name), session.amount.format(least), by_hand.since(at))

    def of_error_source_currency():
        name, topic = draw.choice(ERRORS), draw.choice(FUNCTIONS)
        return one({"error": name, "source": f"kafka:{topic}", "where": 'payload.currency = "EUR"'},
                   by_hand.error(name), by_hand.source(topic), session.currency.format("EUR"))

    def of_function_header():
        name, tenant = draw.choice(FUNCTIONS), f"t-{draw.randrange(100)}"
        return one({"function": name, "where": f'headers.x-tenant = "{tenant}"'},
                   by_hand.function(name), session.header.format("x-tenant", tenant))

    return {"function": of_function, "group": of_group, "error type": of_error, "since": of_period, "source (partition)": of_source,
            "a header": of_header, "payload.amount > N": of_amount, "function, amount, since": of_function_amount_period,
            "error, source, a payload's text": of_error_source_currency, "function, header": of_function_header}


def lists(asker, session, rounds):
    """Rows of one store, and all figures of the mix together."""
    groups = [group["group"] for group in asker.get("/v1/groups", limit=1000)[1]["groups"]]
    questions, every, rows = mix(session, groups, int(time.time() * 1000)), [], []
    for name, make in questions.items():
        ours, theirs = [], []
        for n in range(rounds):
            query, _ = make()
            took, page = asker.get("/v1/letters", **query)
            if not page["letters"]:
                raise RuntimeError(f"{query} found nothing")
            ours.append(took)
            if n % 3 == 0:
                _, sql = make()  # another value: this one's letters are in everybody's caches now
                theirs.append(session.ask(sql))
        every += ours
        rows.append([name, tools.median(ours), percentile(ours, 0.95), tools.median(theirs), ratio(tools.median(ours), tools.median(theirs))])
        tools.say(f"  list by {name}: p50 {rows[-1][1]:.1f} ms, p95 {rows[-1][2]:.1f} ms; {session.name} {rows[-1][3]:.1f} ms")
    rows.append(["all of them", tools.median(every), percentile(every, 0.95), None, None])
    return rows


def through_all(asker, session, count, rounds):
    """Questions that must look at every letter, and one that finds at once: [what, median, worst, by hand, ratio]."""
    draw = random.Random(11)
    hits = (count - 78) // CUSTOMERS + 1
    now_ms = int(time.time() * 1000)

    def rare(n):
        name = f"c{n + 70}"
        return "/v1/letters", {"where": f'payload.customer = "{name}"'}, by_hand.listing(session.customer.format(name)), hits

    def old(n):
        until = now_ms - (14 + n) * HOUR_MS
        return "/v1/letters", {"untilMs": until}, by_hand.listing(f"died_ms < {until}"), 100

    def absent(n):
        text = f"zebra crossing {n}"
        return "/v1/letters", {"search": text}, by_hand.listing(by_hand.found(session, text)), 0

    def once(n):
        text = f'"order":{draw.randrange(count)},'
        return "/v1/letters", {"search": text}, by_hand.listing(by_hand.found(session, text)), 1

    def often(n):
        text = f"door of number {draw.randrange(200)}"
        return "/v1/letters", {"search": text}, by_hand.listing(by_hand.found(session, text)), 100

    def grouped(n):
        return "/v1/groups", {}, by_hand.GROUPS + " limit 50", 50

    def all_groups(n):
        return "/v1/groups", {"limit": 1000}, by_hand.GROUPS, 400

    rows = []
    for what, make in {"groups (50 of 400, with sparklines)": grouped, "search, found nowhere": absent, "search, found once": once,
                       "search, found often": often, f"a rare payload value ({hits} hits)": rare,
                       "until 14 hours ago and more": old, "groups, all 400": all_groups}.items():
        ours, theirs = [], []
        for n in range(rounds):
            path, query, sql, number = make(n)
            took, answer = asker.get(path, **query)
            found = len(answer.get("letters") if path == "/v1/letters" else answer["groups"])
            if found != number:
                raise RuntimeError(f"{query} found {found}, not {number}")
            ours.append(took)
            if n % 2 == 0:
                theirs.append(session.ask(sql))
        rows.append([what, tools.median(ours), max(ours), tools.median(theirs), ratio(tools.median(ours), tools.median(theirs))])
        tools.say(f"  {what}: {rows[-1][1]:,.0f} ms, {session.name} {rows[-1][3]:,.0f} ms")
    return rows


# ---- writing and replaying ---------------------------------------------------------------------------------------------

def write(weir, count):
    """Letters a second: events that fail, until their letters are durable."""
    weir.deploy("failing", "fail", retries=0)
    feeder = Feeder(weir, "failing", batches(count, 1000))
    before, start = weir.metric("weir_letters_dead_total"), time.monotonic()
    feeder.start()
    feeder.join()
    rate = count / (weir.wait_metric("weir_letters_dead_total", before + count, 300) - start)
    tools.say(f"  {rate:,.0f} new letters/s")
    return rate


def replay(weir, names):
    """[seconds until it was made, letters/s until all are marked, letters/s until all outcomes are known] after that answer."""
    for name in names:
        weir.deploy(name, "echo", retries=0)
    where = "function in (" + ", ".join(f'"{name}"' for name in names) + ")"
    job = Replay(weir, {"where": where})
    made = time.monotonic()
    rates = [job.total / (wait(300) - made) for wait in (job.wait_sent, job.wait_ok)]
    tools.say(f"  replay of {job.total:,}: made in {job.made_in:.2f} s, {rates[0]:,.0f}/s marked, {rates[1]:,.0f}/s with outcome")
    return [job.made_in, *rates]


def move_with_pika(mq, count):
    """Messages a second."""
    tool = tools.compiled("amqp", "librabbitmq")
    tools.run([tool, "fill", mq.url, "bench.live", 0, 256])
    tools.run([tool, "fill", mq.url, "bench.dead", count, 256])
    rate = count / float(tools.run([tools.venv() / "python3", tools.HERE / "pika_move.py", mq.url, "bench.dead", "bench.live", count]))
    tools.run([tool, "fill", mq.url, "bench.live", 0, 256])
    tools.say(f"  pika moves {rate:,.0f}/s")
    return rate


# ---- memory ------------------------------------------------------------------------------------------------------------

class Memory:
    """Resident MiB of a server: before, and the most during each phase."""

    def __init__(self, name, weir):
        self.name, self.weir, self.most = name, weir, {}
        self.before = tools.resident_mib(weir.pid)

    @contextlib.contextmanager
    def phase(self, what):
        over = threading.Event()

        def watch():
            while not over.wait(0.05):
                self.most[what] = max(self.most.get(what, 0), tools.resident_mib(self.weir.pid))
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def rows(self):
        return [[f"{self.name}: {what}", self.before, most, most - self.before] for what, most in self.most.items()]


# ---- the part ----------------------------------------------------------------------------------------------------------

class Figures:
    def __init__(self):
        self.lists, self.others, self.memory, self.written, self.replays = {}, {}, [], {}, {}


def look(name, weir, session, count, rounds, figures, memory):
    asker = Asker(weir)
    with memory.phase("lists"):
        figures.lists[name] = lists(asker, session, rounds)
    with memory.phase("groups and searches"):
        figures.others[name] = through_all(asker, session, count, max(3, rounds // 5))


def medians(rows):
    return [tools.median(column) for column in zip(*rows)]


def replays(name, weir, pairs, figures, memory, between):
    rows = []
    for names in pairs:
        between()
        with memory.phase("replays"):
            rows.append(replay(weir, names))
    figures.replays[name] = medians(rows)


def run_sqlite(count, rounds, pairs, figures):
    with sqlite(count) as url, Weir("--store", url) as weir:
        memory = Memory("SQLite, embedded queue", weir)
        session = by_hand.Sqlite(url.removeprefix("sqlite:"))
        look("SQLite", weir, session, count, rounds, figures, memory)
        session.close()
        with memory.phase("new letters"):
            figures.written["SQLite"] = write(weir, count // 10)
        replays("SQLite, embedded queue", weir, pairs, figures, memory, lambda: None)
        figures.memory += memory.rows()


def run_postgres(count, rounds, pairs, figures):
    with postgres(count) as url, RabbitMQ() as mq:
        with Weir("--store", url) as weir:
            memory = Memory("PostgreSQL, embedded queue", weir)
            session = by_hand.Psql(url)
            look("PostgreSQL", weir, session, count, rounds, figures, memory)
            session.close()
            with memory.phase("new letters"):
                figures.written["PostgreSQL"] = write(weir, count // 10)
        moved = []
        with Weir("--store", url, "--queue", mq.url) as weir:
            other = Memory("PostgreSQL, RabbitMQ", weir)

            def between():
                with contextlib.suppress(tools.Missing):
                    moved.append(move_with_pika(mq, count // 10))
                settle(url)
            replays("PostgreSQL, RabbitMQ", weir, pairs[::2], figures, other, between)
        with Weir("--store", url) as weir:
            last = Memory("PostgreSQL, embedded queue", weir)
            replays("PostgreSQL, embedded queue", weir, pairs[1::2], figures, last, lambda: settle(url))
        figures.memory += memory.rows() + other.rows() + last.rows()
        figures.moved = tools.median(moved) if moved else None


def run(quick):
    count, rounds = (100_000, 10) if quick else (1_000_000, 30)
    pairs = [FUNCTIONS[n:n + 2] for n in range(0, 4 if quick else 12, 2)]
    figures = Figures()
    tools.say("  SQLite:")
    run_sqlite(count, rounds, pairs[::2], figures)
    tools.say("  PostgreSQL:")
    run_postgres(count, rounds, pairs, figures)
    return result(figures, count, rounds, len(pairs) // 2, count // 10)


def result(f, count, rounds, repeats, replayed):
    stores = list(f.lists)
    both = [[name] + sum((f.lists[s][n][1:] for s in stores), []) for n, name in enumerate(row[0] for row in f.lists[stores[0]])]
    all_of = [[name] + sum((f.others[s][n][1:] for s in stores), []) for n, name in enumerate(row[0] for row in f.others[stores[0]])]
    hand = {"SQLite": "sqlite3", "PostgreSQL": "psql"}
    heads = sum(([f"{s} p50", "p95", hand[s], "ratio"] for s in stores), [])
    heads_all = sum(([f"{s}", "worst", hand[s], "ratio"] for s in stores), [])
    amqp = f.replays["PostgreSQL, RabbitMQ"]
    most = max(row[3] for row in f.memory)
    rows = [[name, *figure, ratio(figure[1], f.moved) if "RabbitMQ" in name else None] for name, figure in f.replays.items()]
    return {
        "title": "A million dead letters",
        "how": f"{count:,} dead letters of 20 functions and 400 groups, with payloads of 220 to 260 bytes and four attempts each. Lists of 100 "
               f"letters, each with {rounds} different values, in ms until the answer is complete; beside each, the same by hand. "
               f"PostgreSQL with {SETTINGS.strip().replace(chr(10), ', ')}.",
        "columns": ["list by", *heads], "rows": both,
        "more": [["Questions that look at many letters, in ms.", ["", *heads_all], all_of],
                 [f"Replays of {replayed:,} letters to a function that returns its event, unthrottled. Median of {repeats}. The last column: "
                  f"beside a pika consumer that moves messages from one quorum queue to another ({f.moved or 0:,.0f}/s).",
                  ["", "s to select", "letters/s until all are sent and marked", "letters/s until all outcomes are known", "x pika"], rows],
                 [f"New letters, {replayed:,} events that fail, in a store that has {count:,} already.", ["store", "letters/s"],
                  [[s, f.written[s]] for s in stores]],
                 ["Resident memory of the server's process, MiB.", ["", "before", "most", "more"], f.memory]],
        "aims": [aim(f"list, p95 of all, {s}", f.lists[s][-1][2], 50, " ms", most=True) for s in stores]
                + [aim(f"groups, {s}", f.others[s][0][1], 200, " ms", most=True) for s in stores]
                + [aim(f"all 400 groups, {s}", f.others[s][-1][1], 200, " ms", most=True) for s in stores]
                + [aim(f"text search, found nowhere, {s}", f.others[s][1][1], 1000, " ms", most=True) for s in stores]
                + [aim(f"selecting a replay of {replayed:,}, {name}", row[0], 2, " s", most=True) for name, row in f.replays.items()]
                + [aim("replay, PostgreSQL and RabbitMQ", amqp[1], 10_000, "/s")]
                + [aim(f"writing letters, {s}", f.written[s], 20_000, "/s") for s in stores]
                + [aim("memory, the most that is added", most, MEMORY_MIB, " MiB", most=True)],
        "notes": ["pika moves what is in the queue, all of it, as it is. It cannot select, edit, try, pause, undo, or keep an order, it knows "
                  "nothing of what became of a message, and nobody handles the messages meanwhile. Weir marks each letter, runs the handler "
                  "on its event at the same time, and writes down the outcome.",
                  "By hand, groups have neither sparklines nor titles, and lists no counts of edits; the session is open already."]
                 + ([] if f.moved else ["pika was left out."]),
    }
