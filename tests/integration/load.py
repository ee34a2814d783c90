# SPDX-License-Identifier: Apache-2.0
"""A load of async events for tests that break something meanwhile, and the account of it afterwards.

    deploy(server)
    with Load(server, 20000) as load:          # sends from two threads; what breaks the connection ends the sending
        break_something()
    wait_all_ended(server, collector, load.accepted)
    print(duplicates(collector, load.accepted))

An event has ended when its handler told the collector of its success, or when it is a dead letter; one that was replayed has
ended when the event that replays it has. In a load, 1 event of 100 always fails and 5 of 100 fail at their first attempt.
"""
import http.client
import itertools
import json
import sqlite3
import threading
import uuid

import psycopg2
import psycopg2.extras

from server import Refused
from waiting import wait_until

FUNCTION = "job"
SOURCE = '''
import os
import time
from collect import tell

def main_handler(event, context):
    id, attempt = context["request_id"], context["attempt"]
    if event["kind"] == "hold":
        tell("begin", id, attempt, os.getpid())
    if "ms" in event:
        time.sleep(event["ms"] / 1000)
    if event["kind"] == "hold" and attempt <= event["times"]:
        time.sleep(event["hold_ms"] / 1000)
    while "gate" in event and not os.path.exists(event["gate"]):
        time.sleep(0.005)
    if event["kind"] == "poison" or event["kind"] == "once" and attempt == 1:
        tell("failed", id, attempt)
        raise ValueError(event["kind"])
    tell(id, attempt)
    return id
'''
BATCH = 50
LEASE_MS = 60000  # of due letters and of letters that a replay sends, see dlq/; a replay's own is shorter


def deploy(server, **settings):
    return server.deploy(FUNCTION, SOURCE, **{"backoffMs": [50, 100, 150], **settings})


DIES = "def main_handler(event, context): raise ValueError('not yet')"
LIVES = """
from collect import tell

def main_handler(event, context):
    tell(event["n"], context["request_id"])
    if event.get("again"):
        raise ValueError("again")
"""


def bury(server, backend, count, payload=lambda n: {"n": n}, **settings):
    """`count` dead letters of FUNCTION, whose payloads are payload(0), …: one that died, and copies of it in the store. After mend(server)
    they can be replayed. Their ids, in order."""
    server.deploy(FUNCTION, DIES, retries=0, **settings)
    server.send(FUNCTION, payload(0), headers={"Content-Type": "application/json"})
    [first] = server.wait_letters(1, function=FUNCTION)
    first = uuid.UUID(first["id"])
    ids = [uuid.UUID(int=first.int + n) for n in range(count)]

    def copies(table, n, id):
        """Of the columns that change."""
        if table == "letters":
            return id.bytes, json.dumps(payload(n)).encode()
        return id.bytes, event.replace(first.bytes, id.bytes)
    [[event]] = sql(server, backend, "SELECT event FROM letter_bodies")
    event = bytes(event)
    for table, changed in (("letters", "id, payload"), ("letter_bodies", "id, event")):
        same = ", ".join(name for name in columns(server, backend, table) if name not in changed.split(", "))
        sql(server, backend, f"CREATE TEMPORARY TABLE copies AS SELECT {changed} FROM {table} WHERE false", "INSERT INTO copies VALUES",
            f"INSERT INTO {table} ({changed}, {same}) SELECT c.*, {same} FROM copies c, (SELECT {same} FROM {table} LIMIT 1) l",
            rows=[copies(table, n, id) for n, id in enumerate(ids) if n])
    return [str(id) for id in ids]


def mend(server, source=LIVES, **settings):
    return server.deploy(FUNCTION, source, retries=0, **settings)


def event(n, **more):
    kind = "poison" if n % 100 == 50 else "once" if n % 100 in (10, 30, 60, 70, 90) else "ok"
    return {"n": n, "kind": kind, **more}


class Load:
    """`accepted`: ids whose acceptance was confirmed. `refusals`: statuses of the answers 429, 503 and 507; what was not taken
    is sent again. `cut`: the connection broke. `pause`: seconds between two batches of a thread."""

    def __init__(self, server, count, make=event, threads=2, batch=BATCH, numbers=None, pause=0):
        self.server, self.make, self.batch, self.pause = server, make, batch, pause
        self.accepted, self.refusals = [], []
        self.cut = False
        self._errors = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._numbers = numbers or itertools.count()
        self._left = count
        self._threads = [threading.Thread(target=self._run, name=f"load-{n}", daemon=True) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *why):
        if why[0]:
            self._stop.set()
        self.join()
        if not why[0] and self._errors:
            raise self._errors[0]

    def stop(self):
        self._stop.set()
        self.join()

    def join(self, seconds=120):
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), "the load is not sent"

    @property
    def done(self):
        return not any(thread.is_alive() for thread in self._threads)

    def _take(self):
        with self._lock:
            count = min(self.batch, self._left)
            self._left -= count
            return [self.make(next(self._numbers)) for _ in range(count)]

    def _run(self):
        try:
            while not self._stop.is_set() and (payloads := self._take()):
                while payloads and not self._stop.is_set():
                    payloads = self._send(payloads)
                self._stop.wait(self.pause)
        except (OSError, http.client.HTTPException):
            self.cut = True
        except BaseException as why:
            self._errors.append(why)

    def _send(self, payloads):
        """Returns those that are still to be sent."""
        accepted = []
        try:
            self.server.send_async(FUNCTION, payloads, accepted)
            return []
        except Refused as why:
            if why.status not in (429, 503, 507):
                raise
            self.refusals.append(why.status)
            self._stop.wait(0.1)
            return payloads[len(accepted):]  # which of them were taken is not said, only how many
        finally:
            with self._lock:
                self.accepted += accepted


def unfinished(server, collector, ids):
    missing = collector.missing(ids)
    if not missing:
        return []
    dead = {letter["id"] for letter in server.letters(state="dead")}
    missing = [id for id in missing if id not in dead]
    if not missing:
        return []
    replays = {letter["id"]: letter["replayId"] for letter in server.letters(state="replayed")}

    def has_ended(id):
        while id in replays:
            id = replays[id]
        return id in dead or collector.count(id) > 0
    return [id for id in missing if not has_ended(id)]


def wait_all_ended(server, collector, ids, seconds=60):
    def what():
        left = unfinished(server, collector, ids)
        return f"{len(ids)} accepted events ended; {len(left)} did not, such as {left[:3]}; {server.function_status(FUNCTION)}"
    wait_until(lambda: not unfinished(server, collector, ids), seconds, what)


def wait_ready(server, seconds=30):
    wait_until(lambda: server.status()["ready"], seconds, "the server has its queue and its store again")


def wait_idle(server, seconds=60):
    """Nothing waits, runs or is due: whatever duplicates there were have run too."""
    def idle():
        status = server.function_status(FUNCTION)
        return status and not (status.get("waiting", 1) or status["unsettled"] or status.get("due", 1))
    wait_until(idle, seconds, lambda: f"nothing is left to do: {server.function_status(FUNCTION)}")


def duplicates(collector, ids):
    """How many successes there were beyond the first of each event."""
    return sum(count - 1 for count in collector.repeated(ids).values())


def sql(server, backend, *statements, rows=()):
    """Runs them in the store of the server, beside it; the rows of the last one. One that ends with VALUES gets `rows`."""
    connection = sqlite3.connect(server.data / "weir.db", timeout=30) if backend.embedded else psycopg2.connect(backend.store_url)
    try:
        cursor = connection.cursor()
        for statement in statements:
            if not statement.endswith(" VALUES"):
                cursor.execute(statement)
            elif backend.embedded:
                cursor.executemany(f"{statement} ({','.join('?' * len(rows[0]))})", rows)
            else:
                psycopg2.extras.execute_values(cursor, statement + " %s", rows, page_size=1000)
        found = cursor.fetchall() if cursor.description else []
        connection.commit()
        return found
    finally:
        connection.close()


def columns(server, backend, table):
    """Those that can be written."""
    if backend.embedded:
        return [name for name, in sql(server, backend, f"SELECT name FROM pragma_table_info('{table}')")]
    return [name for name, in sql(server, backend, "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
                                                   f" AND table_name = '{table}' AND is_generated = 'NEVER'")]


def let_leases_run_out(server, backend):
    """As if the time of a lease had passed since the server was killed, which holds what it had claimed until then."""
    assert not server.alive
    sql(server, backend, *(f"UPDATE {table} SET lease_ms = lease_ms - {LEASE_MS} WHERE lease_ms > {LEASE_MS}"
                           for table in ("letters", "replays")))
