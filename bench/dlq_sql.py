# SPDX-License-Identifier: Apache-2.0
"""The same questions as of part dlq, by hand: psql and sqlite3, each in one open session."""
import subprocess
import time

COLUMNS = ("id, function, version, attempts, error_type, error_message, accepted_ms, died_ms, source_name, source_at, ordering_key, "
           "length(payload)")


class Session:
    """ask() returns milliseconds; the rows go to /dev/null. `end`: how the line begins that comes after them."""

    def __init__(self, argv, opening, end):
        self.child = subprocess.Popen(["stdbuf", "-oL", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.end = end
        self.child.stdin.write(opening)

    def ask(self, sql):
        start = time.perf_counter()
        self.child.stdin.write(sql + ";\n")
        self.child.stdin.flush()
        while line := self.child.stdout.readline():
            if line.startswith(self.end):
                return (time.perf_counter() - start) * 1000
            if "rror" in line:
                raise RuntimeError(f"{line.strip()}: {sql}")
        raise RuntimeError("the session ended")

    def close(self):
        self.child.stdin.close()
        self.child.wait(20)


class Psql(Session):
    name = "psql"

    def __init__(self, url):
        super().__init__(["psql", "-qAtX", url], "\\timing on\n\\o /dev/null\n", "Time:")

    header = "headers->>'{}' = '{}'"
    amount = "(body->>'amount')::numeric > {}"
    customer = "body->>'customer' = '{}'"
    currency = "body->>'currency' = '{}'"
    payload_like = "convert_from(payload, 'UTF8') ilike '%{}%'"
    message_like = "error_message ilike '%{}%'"


class Sqlite(Session):
    name = "sqlite3"

    def __init__(self, path):
        super().__init__(["sqlite3", "-batch", "-readonly", path], ".timer on\n.output /dev/null\n", "Run Time:")

    header = "headers->>'{}' = '{}'"
    amount = "cast(payload as text)->>'amount' > {}"
    customer = "cast(payload as text)->>'customer' = '{}'"
    currency = "cast(payload as text)->>'currency' = '{}'"
    payload_like = "cast(payload as text) like '%{}%'"
    message_like = "error_message like '%{}%'"


def listing(*conditions):
    return f"select {COLUMNS} from letters where state = 'dead' and {' and '.join(conditions)} order by id desc limit 100"


def function(name):
    return f"function = '{name}'"


def group(text):
    number = int(text, 16)
    return f"fingerprint = {number - 2**64 if number >= 2**63 else number}"


def error(name):
    return f"error_type = '{name}'"


def since(ms):
    return f"died_ms >= {ms}"


def source(topic, partition=None):
    at = f'{{"topic":"{topic}",' + ("" if partition is None else f'"partition":{partition},')
    return f"source_kind = 'kafka' and source_at like '{at}%'"


def found(session, text):
    return f"({session.message_like.format(text)} or {session.payload_like.format(text)})"


GROUPS = "select * from weir_groups order by letters desc"
