# SPDX-License-Identifier: Apache-2.0
"""The two sides of part timers: a weir whose store holds many timers, and Celery beat with as many crontab entries."""
import json
import pathlib
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time

import tools
from server import Weir

FUNCTION = "tick"
MESSAGE = '{"kind":"bench"}'
ZONES = "UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"
ROWS_A_STATEMENT = 1000


def far_settings(number):
    """Next due in some 300 days."""
    month = time.gmtime(time.time() + 300 * 86400).tm_mon
    second, minute, hour = number % 60, number // 60 % 60, number // 3600 % 24
    return {"cron": f"{second} {minute} {hour} 1 {month} *", "tz": ZONES[number % len(ZONES)], "message": MESSAGE}


def due_settings(period, start):
    return {"cron": f"*/{period} * * * * *", "start": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start)), "message": MESSAGE}


class Timers:
    """The data of a server: a function that tells the clock, and timers that are written into the store while no server runs."""

    def __init__(self, handler, db=None, queue=None):
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-timers-"))
        self.db = db
        self.options = (["--store", db] if db else []) + (["--queue", queue] if queue else [])
        with self.weir() as weir:
            weir.deploy_text(FUNCTION, handler)

    def weir(self):
        return Weir(*self.options, keep=self.data)

    def close(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def sql(self, text):
        """Rows of text."""
        if self.db:
            done = subprocess.run(["psql", "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-f", "-", self.db], input=text,
                                  stdout=subprocess.PIPE, text=True, check=True, timeout=120)
            return [line.split("\t") for line in done.stdout.splitlines()]
        with sqlite3.connect(self.data / "weir.db", timeout=30) as db:
            if text.startswith("SELECT"):
                return [[str(cell) for cell in row] for row in db.execute(text)]
            db.executescript(text)
            return []

    def write(self, first, settings):
        """Timers number `first` and on, in place of what has their names."""
        now = int(time.time() * 1000)
        rows = [f"('timer-{first + n:06d}','{FUNCTION}','timer','{json.dumps(given)}','active',0,{now},{now})"
                for n, given in enumerate(settings)]
        statements = ["BEGIN", f"DELETE FROM triggers WHERE name >= 'timer-{first:06d}' AND name < 'timer-{first + len(rows):06d}'"]
        statements += ["INSERT INTO triggers (name, function, kind, settings, state, epoch, created_ms, changed_ms) VALUES "
                       + ",".join(rows[at:at + ROWS_A_STATEMENT]) for at in range(0, len(rows), ROWS_A_STATEMENT)]
        self.sql(";\n".join([*statements, "COMMIT"]) + ";\n")
        if self.db:
            self.sql("ANALYZE triggers;")

    def lags(self, scheduled_ms):
        """Milliseconds from the scheduled time until each was decided, ascending."""
        rows = self.sql(f"SELECT fired_ms - scheduled_ms FROM fires WHERE scheduled_ms = {scheduled_ms} ORDER BY 1")
        return [int(lag) for lag, in rows]


def add_rate(weir, first, count, seconds):
    """Timers added one after the other over a kept connection, until there are so many or the time is over: how many, how many a
    second."""
    added, start = 0, time.monotonic()
    with socket.create_connection(("127.0.0.1", weir.port), 60) as s, s.makefile("rb") as answers:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while added < count and time.monotonic() < start + seconds:
            body = json.dumps({"name": f"timer-{first + added:06d}", "function": FUNCTION, "kind": "timer",
                               "settings": far_settings(first + added)})
            s.sendall(f"POST /v1/triggers HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            status, text = _answer(answers)
            if status not in (200, 201):
                raise RuntimeError(f"a timer was not added: {status} {text[:300]!r}")
            added += 1
    return added, added / (time.monotonic() - start)


def _answer(file):
    status, length = int(file.readline()[9:12]), 0
    while (line := file.readline().strip()):
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    return status, file.read(length)


class Sampler:
    """Asks a server for /healthz and /metrics in turn, every 5 ms: how long an answer takes, and what the counters say."""

    COUNTER = re.compile(rb'^(weir_events_(?:accepted|ok)_total)\{function="%s"\} (\S+)$' % FUNCTION.encode(), re.M)

    def __init__(self, weir):
        self.latencies = []  # (asked at, seconds) of /healthz
        self.counts = []     # (answered at, accepted, ok)
        self.stop = threading.Event()
        self.failure = None
        self.port = weir.port
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(30)
        if self.failure:
            raise self.failure

    def accepted_at(self, count):
        return next((at for at, accepted, _ in list(self.counts) if accepted >= count), None)

    def last(self):
        return self.counts[-1][1:] if self.counts else (0, 0)

    def _run(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 60) as s, s.makefile("rb") as answers:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while not self.stop.wait(0.005):
                    asked = time.time()
                    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")
                    _answer(answers)
                    self.latencies.append((asked, time.time() - asked))
                    s.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n")
                    found = {name: float(value) for name, value in self.COUNTER.findall(_answer(answers)[1])}
                    self.counts.append((time.time(), found.get(b"weir_events_accepted_total", 0), found.get(b"weir_events_ok_total", 0)))
        except OSError as e:
            self.failure = RuntimeError(f"the server does not answer any more: {e}")


class Celery:
    """celery beat, and with a worker the worker."""

    def __init__(self, url, clock, due, far, worker=True):
        self.programs = tools.venv()
        self.env = {"PATH": tools.PLAIN_PATH, "HOME": "/tmp", "BENCH_AMQP": url, "BENCH_CLOCK": str(clock.port),
                    "BENCH_DUE": str(due), "BENCH_FAR": str(far)}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-bench-beat-"))
        self.with_worker = worker
        self.children = []

    def __enter__(self):
        if self.with_worker:
            self._spawn("worker", "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat")
        start = time.monotonic()
        self.beat = self._spawn("beat", "-s", self.folder / "schedule")
        self._settle()
        self.load_seconds = time.monotonic() - start
        return self

    def __exit__(self, *_):
        for child in self.children:
            tools.end(child, 3)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, *words):
        argv = [self.programs / "celery", "-A", "celery_beat", *words, "-l", "WARNING"]
        self.children.append(tools.spawn(argv, log=f"celery-{words[0]}", env=self.env, cwd=tools.HERE))
        return self.children[-1]

    def _settle(self):
        """Until it has read its schedule: it then sleeps."""
        quiet = 0
        until = time.monotonic() + 120
        while quiet < 4:
            if time.monotonic() > until or self.beat.poll() is not None:
                raise RuntimeError("celery beat does not come to rest; see build/bench/log/celery-beat.log")
            [(mib, share)] = tools.at_rest([self.beat.pid], 0.25)
            quiet = quiet + 1 if share < 5 and mib > 20 else 0
