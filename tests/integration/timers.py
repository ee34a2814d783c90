# SPDX-License-Identifier: Apache-2.0
"""What tests of timers share: timers and their history over HTTP, a handler that tells what it ran, and clocks that are wrong.

    deploy(server)                                              # the function `tick`
    add(server, "often", every="1s")
    journal = Journal(collector)
    wait_until(lambda: len(journal.runs("often")) >= 3, 10, "it fires")
    assert [each["outcome"] for each in fires(server, "often")] == ["ok"] * 3

The message of a timer says what is to happen to its fires: {"hold":FILE} runs until there is that file, {"fails":n} fails at the
first n attempts, {"dies":true} ends its process, {"hangs":true} never returns. (Files need servers with sandbox=none.)

    with Clock(ahead_s=30) as clock:                            # of one server: `Server(…, env=clock.env)`
        clock.set(ahead_s=3600)                                 # within two seconds

Times are Unix milliseconds.
"""
import collections
import datetime
import glob
import json
import os
import pathlib
import shutil
import tempfile
import threading
import time
import urllib.parse

from waiting import wait_until

FUNCTION = "tick"
SLOW_MS = 20_000  # what a busy machine may add to a time that is promised; what the tests tell apart by it is further away
HANDLER = '''
import json
import os
import threading
import time
from collect import tell


def wish(event):
    try:
        found = json.loads(event["Message"])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def main_handler(event, context):
    want = wish(event)
    told = [event["TriggerName"], event["Time"], context["request_id"], context["attempt"]]
    tell("begin", *told, int(time.time() * 1000), __file__)
    while "hold" in want and not os.path.exists(want["hold"]):
        time.sleep(0.005)
    if want.get("hangs"):
        threading.Event().wait()
    if want.get("dies"):
        os._exit(7)
    if want.get("fails", 0) >= context["attempt"]:
        raise ValueError("as wished")
    tell("ran", *told, int(time.time() * 1000), __file__)
'''
ALONE = {"sandbox": "none"}  # for messages that name files
QUICK = {"backoffMs": [50, 50, 50]}
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


def deploy(server, name=FUNCTION, **settings):
    return server.deploy(name, HANDLER, **{**QUICK, **settings})


# ---- times -------------------------------------------------------------------------------------------------------------


def now_ms():
    return time.time_ns() // 1_000_000


def ms_of(text):
    """Of RFC 3339 in UTC."""
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def text_of(ms):
    return datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def texts_of(times):
    return [text_of(ms) for ms in times]


def second_from_now(seconds, clock_ms=None):
    """A whole second."""
    return (clock_ms or now_ms()) // 1000 * 1000 + seconds * 1000


# ---- timers ------------------------------------------------------------------------------------------------------------


def try_add(server, name=None, function=FUNCTION, **settings):
    """(status, body). start and end are taken as milliseconds too, message as anything."""
    for bound in ("start", "end"):
        if isinstance(settings.get(bound), int):
            settings[bound] = text_of(settings[bound])
    if not isinstance(settings.get("message", ""), str):
        settings["message"] = json.dumps(settings["message"])
    body = {"function": function, "kind": "timer", "settings": {key: str(value) for key, value in settings.items()}}
    status, _, answer = server.http("POST", "/v1/triggers", {**body, **({"name": name} if name else {})})
    return status, answer


def add(server, name=None, function=FUNCTION, **settings):
    """The trigger."""
    status, answer = try_add(server, name, function, **settings)
    assert status == 201, f"{status} {answer}"
    return answer


def call(server, method, path, body=None, **query):
    """What it answers with a status that is good."""
    status, _, answer = server.http(method, path + ("?" + urllib.parse.urlencode(query) if query else ""), body)
    assert status in (200, 202, 204), f"{method} {path} {query}: {status} {answer}"
    return answer


def promised(trigger, times):
    """Those of the times that are to happen: on a slow machine it may have been added after the first of them."""
    return [ms for ms in times if ms > trigger["createdMs"]]


def change(server, name, **settings):
    return call(server, "PATCH", f"/v1/triggers/{name}", {"settings": settings})


def act(server, name, what):
    """pause or resume; the trigger as it is then."""
    return call(server, "POST", f"/v1/triggers/{name}/{what}")


def remove(server, name):
    call(server, "DELETE", f"/v1/triggers/{name}")


def try_fire(server, name, **body):
    """(status, body)"""
    status, _, answer = server.http("POST", f"/v1/triggers/{name}/fires", body or None)
    return status, answer


def fire(server, name, **body):
    status, answer = try_fire(server, name, **body)
    assert status == 202, f"{status} {answer}"
    return answer


def coming(server, name, **query):
    """The times it says it will fire at."""
    return [each["scheduledMs"] for each in call(server, "GET", f"/v1/triggers/{name}/next", **query)["fires"]]


def fires(server, name):
    """Its whole history, the oldest first."""
    found, before = [], 0
    while True:
        page = call(server, "GET", f"/v1/triggers/{name}/fires", limit=1000, **({"before": before} if before else {}))
        found += page["fires"]
        before = page["next"]
        if not before:
            return found[::-1]


def times(some):
    return [each["scheduledMs"] for each in some]


def fire_at(server, name, scheduled_ms):
    return next((each for each in fires(server, name) if each["scheduledMs"] == scheduled_ms), None)


def wait_fires(server, name, count, outcome="ok", seconds=30):
    """Until so many of its fires have that outcome; its history."""
    def look():
        found = fires(server, name)
        return found if sum(each["outcome"] == outcome for each in found) >= count else None
    return wait_until(look, seconds, lambda: f"{count} fires of {name} are {outcome}: {fires(server, name)[-10:]}")


# ---- what ran ----------------------------------------------------------------------------------------------------------

Run = collections.namedtuple("Run", "trigger scheduled_ms id attempt at_ms node")


class Journal:
    """What the handler told. `node` of a run is the name of its server's folder; at_ms is this machine's clock."""

    def __init__(self, collector):
        self._collector, self._at = collector, 0
        self._begun, self._ran = [], []
        self._lock = threading.Lock()

    def _fresh(self, name, trigger):
        with self._lock:
            lines = self._collector.lines
            for line in lines[self._at:]:
                word, *words = line.split()
                if word in ("begin", "ran"):
                    (self._begun if word == "begin" else self._ran).append(self._run(*words))
            self._at = len(lines)
            return [run for run in getattr(self, name) if trigger is None or run.trigger == trigger]

    @staticmethod
    def _run(trigger, scheduled, id, attempt, at_ms, file):
        before, data, _ = file.partition("/data/")
        return Run(trigger, ms_of(scheduled), id, int(attempt), int(at_ms), os.path.basename(before) if data else "")

    def begun(self, trigger=None):
        return self._fresh("_begun", trigger)

    def runs(self, trigger=None):
        return self._fresh("_ran", trigger)

    def times(self, trigger):
        """The scheduled times that ran, in order, each once."""
        return sorted({run.scheduled_ms for run in self.runs(trigger)})

    def ids(self, trigger=None):
        """{(trigger, scheduled time): the ids of its events}"""
        found = collections.defaultdict(set)
        for run in self.runs(trigger):
            found[run.trigger, run.scheduled_ms].add(run.id)
        return found

    def repeated(self):
        """{id: its runs} of the events that ran more than once."""
        found = collections.defaultdict(list)
        for run in self.runs():
            found[run.id].append(run)
        return {id: runs for id, runs in found.items() if len(runs) > 1}


def check_once(server, journal, name, expected):
    """Each of these times, and no other, is in the history once and had one event."""
    history = fires(server, name)
    assert texts_of(times(history)) == texts_of(expected)
    assert {each["outcome"] for each in history} == {"ok"}, history
    ids = journal.ids(name)
    assert texts_of(sorted(ms for _, ms in ids)) == texts_of(expected)
    assert {each["scheduledMs"]: {each["requestId"]} for each in history} == {ms: found for (_, ms), found in ids.items()}


# ---- clocks ------------------------------------------------------------------------------------------------------------

# In the Debian package libfaketime.
LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)


class Clock:
    """The wall clock of one server, ahead of (or, below zero, behind) this machine's. Durations stay real."""

    def __init__(self, ahead_s=0, at=None):
        """at: the time that it shows now, RFC 3339."""
        assert LIBRARY, "libfaketime is missing; run: make test-deps"
        self._dir = pathlib.Path(tempfile.mkdtemp(prefix="weir-clock-"))
        self._file = self._dir / "ahead"
        self.set((ms_of(at) - now_ms()) / 1000 if at else ahead_s)
        self.env = {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_CACHE_DURATION": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0", "NO_FAKE_STAT": "1"}

    def set(self, ahead_s):
        self.ahead_s = ahead_s
        new = self._dir / "new"
        new.write_text(f"{ahead_s:+.3f}s\n")
        new.replace(self._file)

    def move(self, seconds):
        self.set(self.ahead_s + seconds)

    def now_ms(self):
        return now_ms() + int(self.ahead_s * 1000)

    def here_ms(self, shown_ms):
        """This machine's time when the clock shows that."""
        return shown_ms - int(self.ahead_s * 1000)

    def close(self):
        shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def kill9(server):
    """kill -9 of a server with a Clock, and of what libfaketime leaves behind."""
    pid = server.pid
    server.kill9()
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        pathlib.Path("/dev/shm", name).unlink(missing_ok=True)
