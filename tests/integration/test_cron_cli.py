# SPDX-License-Identifier: Apache-2.0
"""weir cron, weir run-at, weir trigger fire: what needs no server; then against a stand-in for the server (what is sent, printed,
and the exit code); then over a real one on SQLite, whose answers are held against schema/openapi.yaml."""
import datetime
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

import openapi_check
from fake_server import FakeServer, error
from waiting import wait_until

WEIR = os.environ.get("WEIR_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build/weir")
SECONDS = 60
ID = "0192f3c4-0000-7000-8000-%012d"
HOUR_MS = 3600000
MONDAY_MS = 1767571200000  # 2026-01-05T00:00:00Z
UTC = datetime.timezone.utc


def rfc3339(ms):
    return datetime.datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_weir(url, *words, rc=0, **more):
    env = {**os.environ, "WEIR_SERVER": url}
    env.pop("WEIR_TOKEN", None)
    done = subprocess.run([WEIR, *map(str, words)], env=env, timeout=SECONDS, capture_output=True, text=True, **more)
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def offline(*words, rc=0):
    return run_weir("http://127.0.0.1:1", "cron", *words, rc=rc)


# ---- what needs no server ---------------------------------------------------------------------------------------------------


def test_check_explains_each_field():
    said = offline("check", "0 */15 9-17 * JAN,JUL MON-FRI 2026", "--tz", "Europe/Berlin").stdout
    rows = {line.split()[0]: line.split(None, 2)[1:] for line in said.splitlines() if line.startswith(("sec", "min", "hou", "day", "mon", "wee", "yea"))}
    assert rows == {"second": ["0", "0"], "minute": ["*/15", "0, 15, 30, 45"], "hour": ["9-17", "9-17"], "day": ["*", "every"],
                    "month": ["JAN,JUL", "Jan, Jul"], "weekday": ["MON-FRI", "Mon-Fri"], "year": ["2026", "2026"]}
    assert "7 fields: second minute hour day month weekday year" in said and "Next in Europe/Berlin:" in said


@pytest.mark.parametrize("expression, name, means", [
    ("0 0 0 L * *", "day", "the last of the month"), ("0 0 0 L-3,15W * *", "day", "3 days before the last of the month, the weekday nearest to day 15"),
    ("0 0 0 LW * *", "day", "the last weekday of the month"), ("0 0 0 * * FRI#2,5L", "weekday", "the second Fri of the month, the last Fri of the month"),
    ("*/2 * * * *", "minute", "0, 2, 4, …, 58"), ("0 0,1 * * * *", "minute", "0, 1"), ("0-59 * * * *", "minute", "every")])
def test_check_tells_what_a_field_means(expression, name, means):
    fields = json.loads(offline("check", expression, "--json").stdout)["fields"]
    assert next(field["means"] for field in fields if field["name"] == name) == means


def test_check_gives_the_values_and_the_next_times():
    shown = json.loads(offline("check", "CRON_TZ=Europe/Berlin 0 0 10,14,16 * * *", "--json").stdout)
    assert shown["valid"] and shown["zone"] == "Europe/Berlin" and len(shown["fires"]) == 3
    assert [field["given"] for field in shown["fields"]] == ["0", "0", "10,14,16", "*", "*", "*"]
    assert shown["fields"][2]["values"] == [10, 14, 16] and shown["form"].startswith("6 fields")
    assert "a word" in offline("check", "@daily").stdout and "a period" in offline("check", "@every 90m").stdout


@pytest.mark.parametrize("expression, wrong, why", [
    ("0 0 24 * * *", "24", "field 3 (hour)"), ("0 0 10 * * MON-FRX", "FRX", "field 6 (weekday)"), ("0 0 10 32 * * *", "32", "field 4 (day)")])
def test_check_points_at_what_is_wrong(expression, wrong, why):
    said = offline("check", expression, rc=1).stderr.splitlines()
    assert why in said[0] and said[1] == "  " + expression
    assert said[2].index("^") - 2 <= expression.index(wrong) + len(wrong) - 1 and set(said[2].strip()) == {"^"}
    shown = json.loads(offline("check", expression, "--json", rc=1).stdout)
    assert not shown["valid"] and why in shown["error"] and expression[shown["begin"]:shown["end"]] in expression
    assert why in offline("next", expression, rc=1).stderr


def test_the_carets_stand_below_the_bytes_that_are_wrong():
    assert offline("check", "0 0 24 * * *", rc=1).stderr.splitlines()[1:] == ["  0 0 24 * * *", "      ^^"]


def test_an_expression_wants_quotes():
    assert "in quotes" in offline("check", "0", "0", "10", "*", "*", rc=2).stderr
    assert "in quotes" in offline("next", "0", "0", "10", "*", "*", rc=2).stderr


def test_next_marks_what_daylight_saving_does():
    said = offline("next", "0 30 2 * * * *", "--tz", "Europe/Berlin", "--from", "2026-03-28", "--count", "3").stdout.splitlines()
    assert said[0] == "at 02:30, every day  (0 30 2 * * * *, Europe/Berlin)"
    assert [line.split()[:4] for line in said[2:]] == [
        ["Sat", "2026-03-28", "02:30:00", "+01:00"], ["Sun", "2026-03-29", "03:00:00", "+02:00"], ["Mon", "2026-03-30", "02:30:00", "+02:00"]]
    assert "2026-03-29 01:00:00Z" in said[3] and "moved" in said[3] and "moved" not in said[2] + said[4]
    said = offline("next", "0 0 * * * *", "--tz", "Europe/Berlin", "--from", "2026-10-25 02:00", "--to", "2026-10-25 03:00").stdout.splitlines()[2:]
    assert len(said) == 2 and "+02:00" in said[0] and "the first of two" in said[0] and "+01:00" in said[1] and "the second of two" in said[1]


@pytest.mark.parametrize("rule, local", [
    ("cron", ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]), ("skip", ["2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"])])
def test_next_follows_the_dst_rule(rule, local):
    shown = json.loads(offline("next", "30 2 * * *", "--tz", "Europe/Berlin", "--dst", rule, "--from", "2026-03-29", "--count", "2", "--json").stdout)
    assert [fire["local"] for fire in shown["fires"]] == local


def test_from_is_included_and_to_is_not():
    shown = json.loads(offline("next", "0 0 * * * *", "--from", "2026-01-01", "--to", "2026-01-01T03:00:00Z", "--json").stdout)
    assert [fire["utc"][11:16] for fire in shown["fires"]] == ["00:00", "01:00", "02:00"]
    shown = json.loads(offline("next", "0 0 * * * *", "--from", "2026-01-01T00:00:00.5Z", "--count", "1", "--json").stdout)
    assert [fire["utc"][11:16] for fire in shown["fires"]] == ["01:00"]


@pytest.mark.parametrize("words, why", [
    (("--tz", "Europe/Berln"), "did you mean Europe/Berlin"), (("--from", "tomorrow"), "--from: "), (("--to", "x"), "--to: "),
    (("--count", "0"), "--count"), (("--count", "1001"), "--count"), (("--dst", "never"), "'never' is not one of")])
def test_next_says_what_is_wrong(words, why):
    assert why in offline("next", "0 0 * * * *", *words, rc=2).stderr


def test_next_without_times():
    assert "no such time" in offline("next", "0 0 0 30 2 *").stderr
    assert "give one of them" in offline("next", "TZ=UTC 0 0 * * * *", "--tz", "Europe/Berlin", rc=2).stderr


# ---- against a stand-in -----------------------------------------------------------------------------------------------------


def row(scheduled_ms, outcome="ok", **more):
    ended = outcome not in ("running", "waiting", "retrying")
    never_ran = outcome in ("missed", "skipped")
    return {"scheduledMs": scheduled_ms, "firedMs": scheduled_ms + 3, "lagMs": 3, "cause": "schedule", "outcome": outcome,
            "endedMs": scheduled_ms + 2003 if ended else None, "durationMs": 2000 if ended else None,
            "requestId": None if never_ran else ID % (scheduled_ms // 1000 % 10**12), "missed": 0, "attempts": 1, "error": None, **more}


class FakeTimer(FakeServer):
    """One timer `report`, hourly in Berlin from MONDAY_MS on. `rows` are its fires by scheduled time; a POST adds one, which ends
    as `endings` says when it was looked at `looks` times."""

    def __init__(self):
        super().__init__()
        self.rows, self.endings, self.looks, self.seen, self.most_running, self.refusals = {}, {}, 2, {}, 0, []
        self.zone = "Europe/Berlin"

    def usual(self, request):
        method, path, query = request["method"], request["path"], request["query"]
        answer = {("GET", "/v1/triggers/report/next"): self.next, ("GET", "/v1/triggers/report/fires"): self.fires,
                  ("POST", "/v1/triggers/report/fires"): self.post}.get((method, path))
        if not answer:
            return super().usual(request)
        status, body = answer(request, query)
        if status < 300:  # the stand-in must not promise what the server does not
            openapi_check.check(method, path, status, {"content-type": "application/json", "x-weir-request-id": ID % 1}, json.dumps(body).encode())
        return status, body, {"Retry-After": "1"} if status == 503 else {}

    def next(self, request, query):
        after = int(query.get("after", MONDAY_MS + 100 * HOUR_MS))
        at, fires = max(after // HOUR_MS + 1, MONDAY_MS // HOUR_MS) * HOUR_MS, []
        while len(fires) < int(query["count"]) and not ("until" in query and at >= int(query["until"])):
            fires.append({"scheduledMs": at, "local": rfc3339(at + HOUR_MS)[:19] + "+01:00", "utc": rfc3339(at), "mark": None})
            at += HOUR_MS
        return 200, {"trigger": "report", "function": "job", "state": "active", "zone": self.zone, "expression": "@hourly", "words": "every hour",
                     "fires": fires}

    def fires(self, request, query):
        before = int(query.get("before", 1 << 60))
        found = [ms for ms in sorted(self.rows, reverse=True) if ms < before]
        shown = found[:int(query["limit"])]
        for ms in shown:
            self.seen[ms] = self.seen.get(ms, 0) + 1
            if self.rows[ms]["outcome"] == "running" and self.seen[ms] >= self.looks:
                self.rows[ms] = row(ms, self.endings.get(ms, "ok"), cause="backfill")
        return 200, {"fires": [self.rows[ms] for ms in shown], "next": shown[-1] if len(found) > len(shown) else None}

    def post(self, request, query):
        body = json.loads(request["body"])
        openapi_check.check_request("POST", request["path"], body)
        if self.refusals:
            return self.refusals.pop(0)
        ms = body.get("scheduledMs", MONDAY_MS + 7)
        if ms in self.rows:
            return 409, error("Conflict", "that time has a fire")
        self.rows[ms] = row(ms, "running", cause="backfill")
        self.most_running = max(self.most_running, sum(one["outcome"] == "running" for one in self.rows.values()))
        return 202, {"trigger": "report", "scheduledMs": ms, "requestId": self.rows[ms]["requestId"]}

    def posted(self):
        return [json.loads(request["body"]) for request in self.sent("POST", "/v1/triggers/report/fires")]


@pytest.fixture
def fake():
    server = FakeTimer()
    yield server
    server.close()


@pytest.fixture
def weir(fake):
    return lambda *words, rc=0, **more: run_weir(fake.url, *words, rc=rc, **more)


def test_next_of_a_trigger(weir, fake):
    said = weir("cron", "next", "report", "--count", "2", "--from", "2026-01-05 06:00").stdout.splitlines()
    assert said[0] == "report: every hour  (@hourly, Europe/Berlin)"
    assert said[2].startswith("Mon 2026-01-05 06:00:00 +01:00  2026-01-05 05:00:00Z") and len(said) == 4  # --from is in its zone
    assert "trigger report has its own" in weir("cron", "next", "report", "--tz", "UTC", rc=2).stderr
    assert "there is no such thing" in weir("cron", "next", "nobody", rc=1).stderr


def test_history_shows_how_each_fire_ended(weir, fake):
    fake.rows = {MONDAY_MS: row(MONDAY_MS, missed=41), MONDAY_MS + HOUR_MS: row(MONDAY_MS + HOUR_MS, "dead", attempts=4, error="KeyError: 'total'\nmore"),
                 MONDAY_MS + 2 * HOUR_MS: row(MONDAY_MS + 2 * HOUR_MS, "skipped"), MONDAY_MS + 3 * HOUR_MS: row(MONDAY_MS + 3 * HOUR_MS, "running")}
    lines = weir("cron", "history", "report").stdout.splitlines()
    assert lines[0].split() == ["SCHEDULED", "FIRED", "LAG", "CAUSE", "OUTCOME", "TOOK", "REQUEST", "ID", "NOTE"]
    assert [line.split()[8] for line in lines[1:]] == ["running", "skipped", "dead", "ok"]
    assert lines[4].startswith("Mon 2026-01-05 01:00:00 +01:00  2026-01-05 01:00:00  3ms  schedule  ok") and "2s" in lines[4]
    assert lines[4].endswith("+41 missed") and lines[3].endswith("4 attempts, KeyError: 'total'")
    shown = json.loads(weir("cron", "history", "report", "--outcome", "dead", "--json").stdout)
    assert [one["scheduledMs"] for one in shown["fires"]] == [MONDAY_MS + HOUR_MS] and shown["zone"] == "Europe/Berlin"
    assert "report has no missed fires" in weir("cron", "history", "report", "--outcome", "missed").stderr


def test_history_goes_over_pages(weir, fake):
    fake.rows = {MONDAY_MS + i * HOUR_MS: row(MONDAY_MS + i * HOUR_MS, "dead" if i % 2 else "ok") for i in range(2500)}
    shown = json.loads(weir("cron", "history", "report", "--outcome", "dead", "--limit", "1200", "--json").stdout)
    times = [one["scheduledMs"] for one in shown["fires"]]
    assert times == [MONDAY_MS + i * HOUR_MS for i in range(2499, 99, -2)] and shown["more"]
    done = weir("cron", "history", "report", "--limit", "3")
    assert len(done.stdout.splitlines()) == 4 and "more than these 3" in done.stderr
    done = weir("cron", "history", "report", "--limit", "2500")
    assert len(done.stdout.splitlines()) == 2501 and done.stderr == ""


@pytest.fixture
def backfill(weir):
    """Of the six hours from 00:00 UTC on."""
    return lambda *words, rc=0: weir("cron", "backfill", "report", "--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05 07:00", *words, rc=rc)


SIX = [MONDAY_MS + i * HOUR_MS for i in range(6)]


def test_a_dry_run_only_lists_the_times(backfill, fake):
    lines = backfill("--dry-run").stdout.splitlines()
    assert len(lines) == 7 and lines[0] == "Mon 2026-01-05 01:00:00 +01:00"
    assert lines[6] == "report has 6 times: Mon 2026-01-05 01:00:00 +01:00 to Mon 2026-01-05 06:00:00 +01:00 (Europe/Berlin)"
    assert json.loads(backfill("--dry-run", "--json").stdout)["times"] == SIX and not fake.posted()


@pytest.mark.parametrize("parallel", [1, 4])
def test_backfill_runs_so_many_at_once_and_passes_over_what_had_run(backfill, fake, parallel):
    fake.rows = {SIX[2]: row(SIX[2])}
    fake.refusals = [(503, error("Unavailable", "the store is away"))]  # is asked again
    shown = json.loads(backfill("--yes", "--json", "--parallel", parallel).stdout)
    assert shown == {"trigger": "report", "times": 6, "hadRun": 1, "running": 0, "left": 0, "outcomes": {"ok": 5}}
    assert [body["scheduledMs"] for body in fake.posted()] == [SIX[0]] + SIX
    assert fake.most_running == parallel
    assert backfill("--yes").stdout.splitlines()[-1] == "6 of 6: 0 ok, 6 had run"  # again: nothing is left to do


def test_backfill_fails_when_one_died(backfill, fake):
    fake.endings = {SIX[3]: "dead", SIX[4]: "discarded"}
    done = backfill("--yes", rc=1)
    assert done.stdout.splitlines()[-1] == "6 of 6: 4 ok, 1 died, 1 ended otherwise"
    assert "1 died; weir dlq list --function job shows them" in done.stderr


def test_backfill_stops_at_an_error_and_goes_on_later(backfill, fake):
    fake.refusals = [(400, error("InvalidArgument", "that is no time of the schedule"))]
    done = backfill("--yes", rc=1)
    assert "that is no time of the schedule" in done.stderr and "the same command again goes on" in done.stderr
    assert done.stdout.splitlines()[-1] == "0 of 6: 0 ok, 6 not sent"


def test_an_interrupted_backfill_tells_how_to_go_on(fake):
    fake.looks = 1 << 30  # nothing ever ends
    process = subprocess.Popen([WEIR, "cron", "backfill", "report", "--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05T06:00:00Z", "--yes"],
                               env={**os.environ, "WEIR_SERVER": fake.url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(fake.posted()) == 4, SECONDS)
        process.send_signal(signal.SIGINT)
        said, why = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 1 and said.splitlines()[-1] == "0 of 6: 0 ok, 4 still running, 2 not sent"
    assert "what was sent runs" in why


@pytest.mark.parametrize("words, why", [
    ((), "--from"), (("--from", "2026-01-05", "--to", "2026-01-04"), "before --to"), (("--from", "+1h"), "in the past"),
    (("--from", "2026-01-05", "--parallel", "0"), "--parallel"), (("--from", "2026-01-05", "--parallel", "101"), "--parallel")])
def test_backfill_says_what_is_wrong(weir, fake, words, why):
    assert why in weir("cron", "backfill", "report", "--yes", *words, rc=2).stderr
    assert not fake.posted()


def test_backfill_pages_through_the_schedule(weir, fake):
    shown = json.loads(weir("cron", "backfill", "report", "--from", "2026-01-05T00:00:00Z", "--to", "2026-05-05T00:00:00Z", "--dry-run", "--json").stdout)
    assert shown["times"] == [MONDAY_MS + i * HOUR_MS for i in range(2880)]


def test_fire_sends_the_data_as_text(weir, fake, folder):
    assert weir("trigger", "fire", "report").stdout.startswith("report fired: " + ID[:10])
    fake.rows.clear()
    (folder / "data").write_text('{"a": 1}\n')
    weir("trigger", "fire", "report", "--file", folder / "data")
    fake.rows.clear()
    weir("trigger", "fire", "report", "--data", "-", input="from stdin")
    fake.rows.clear()
    weir("trigger", "fire", "report", "--data", "")
    assert fake.posted() == [{}, {"data": '{"a": 1}\n'}, {"data": "from stdin"}, {"data": ""}]
    (folder / "data").write_bytes(b"\xff")
    assert "not UTF-8" in weir("trigger", "fire", "report", "--file", folder / "data", rc=2).stderr
    assert "either --data or --file" in weir("trigger", "fire", "report", "--file", "x", "--data", "y", rc=2).stderr


def test_fire_waits_for_the_end(weir, fake):
    assert weir("trigger", "fire", "report", "--wait").stdout.splitlines()[-1] == "ok after 2s"
    fake.rows.clear()
    fake.endings = {MONDAY_MS + 7: "dead"}
    done = weir("trigger", "fire", "report", "--wait", rc=1)
    assert "the fire ended dead" in done.stderr and "weir dlq show" in done.stderr
    fake.rows.clear()
    fake.looks = 1 << 30
    assert "has not ended in 300ms" in weir("trigger", "fire", "report", "--wait", "--timeout", "300ms", rc=1).stderr


def test_list_shows_only_timers(weir, fake):
    timer = {"name": "report", "function": "job", "kind": "timer", "state": "active", "createdMs": 1, "changedMs": 1, "settings": {"cron": "@hourly"}}
    kafka = {**timer, "name": "k", "kind": "kafka", "settings": {"topic": "shop"}}
    every = {**timer, "settings": {"every": "5m"}, "state": "paused"}

    def answer(request):
        timers = [] if request["query"].get("function") == "nobody" else [timer, every]
        return 200, {"triggers": timers if request["query"].get("kind") == "timer" else [kafka, *timers], "next": None}
    fake.expect("GET", "/v1/triggers", *[answer] * 4)
    lines = weir("cron", "list").stdout.splitlines()
    assert len(lines) == 3 and lines[1].split()[:5] == ["report", "job", "active", "@hourly", "Europe/Berlin"] and "2026-01-09" in lines[1]
    assert "2026" not in lines[2]  # a paused one does not fire
    shown = json.loads(weir("cron", "list", "--json").stdout)["timers"]
    assert [one["next"]["scheduledMs"] for one in shown] == [MONDAY_MS + 101 * HOUR_MS] * 2 and shown[0]["words"] == "every hour"
    assert [line.split()[4] for line in weir("trigger", "list").stdout.splitlines()[1:]] == ["shop", "@hourly", "every"]
    assert "nobody has no timers" in weir("cron", "list", "nobody").stderr


def test_list_stops_at_200_timers(weir, fake):
    timer = {"name": "report", "function": "job", "kind": "timer", "state": "active", "createdMs": 1, "changedMs": 1, "settings": {"cron": "@hourly"}}
    asked = []

    def answer(request):
        asked.append(request["query"])
        return 200, {"triggers": [timer] * int(request["query"]["limit"]), "next": "report"}
    fake.expect("GET", "/v1/triggers", answer)
    done = weir("cron", "list", "job", "--json")
    shown = json.loads(done.stdout)
    assert len(shown["timers"]) == 200 and shown["more"] and "more than these 200" in done.stderr
    assert asked == [{"function": "job", "kind": "timer", "limit": "201"}]


def test_run_at_sends_the_time_and_says_it_twice(weir, fake):
    year = datetime.datetime.now(UTC).year + 1
    due_ms = int(datetime.datetime(year, 1, 10, 17, tzinfo=UTC).timestamp()) * 1000
    for words in ([f"{year}-01-10T18:00 Europe/Berlin"], [f"{year}-01-10T18:00", "Europe/Berlin"], [f"{year}-01-10 18:00", "--tz", "Europe/Berlin"]):
        done = weir("run-at", "orders:3", *words, "--data", '{"n":1}')
        sent = fake.sent("POST", "/v1/functions/orders/invocations")[-1]
        assert sent["query"] == {"invokeType": "Event", "qualifier": "3", "runAt": str(due_ms)} and sent["body"] == b'{"n":1}'
        assert sent["headers"]["Content-Type"] == "application/json"
        assert f"{year}-01-10 18:00:00 +01:00 (Europe/Berlin), {year}-01-10 17:00:00Z" in done.stdout
        assert "weir dlq discard id-" in done.stderr
    shown = json.loads(weir("run-at", "orders", f"{year}-01-10T17:00Z", "--json").stdout)
    assert shown["dueMs"] == due_ms and shown["zone"] == "UTC"
    assert "orders runs at once" in weir("run-at", "--", "orders", "-2h").stdout


def test_run_at_says_what_is_wrong(weir, fake):
    assert "yesterday" in weir("run-at", "orders", "yesterday", rc=2).stderr
    assert "did you mean Europe/Berlin" in weir("run-at", "orders", "2026-12-24T18:00 Europe/Berln", rc=2).stderr
    assert "it needs" in weir("run-at", "orders", rc=2).stderr
    assert not fake.sent("POST", "/v1/functions/orders/invocations")


# ---- over a real server -----------------------------------------------------------------------------------------------------

JOB = """
    import json
    def main_handler(event, context):
        if "bad" in json.dumps(event): raise ValueError("bad event")
        return event
"""


@pytest.fixture
def server(serve):
    made = serve({"sandbox": "none"})
    made.deploy("job", JOB, backoffMs=[50, 50, 50])
    return made


def weir_of(server, *words, rc=0, **more):
    done = server.cli(*words, **more)
    assert done.returncode == rc, done.stdout + done.stderr
    return done


def test_an_event_runs_when_it_is_due_and_not_before(server):
    """Its maximum age counts from then: it is shorter than the wait."""
    server.deploy("soon", JOB, maxAgeMs=8000)
    due_ms = int(time.time() * 1000) + 10000
    status, _, answer = server.http("POST", f"/v1/functions/soon/invocations?invokeType=Event&runAt={due_ms}", b'{"n":1}')
    assert status == 202 and answer["dueMs"] == due_ms
    waiting = server.letters(state="due")
    assert [(one["id"], one["kind"], one["dueMs"], one["attempts"]) for one in waiting] == [(answer["requestId"], "delayed", due_ms, 0)]
    ok = lambda: server.metric("weir_events_ok_total", "soon")
    assert ok() == 0
    wait_until(lambda: ok() == 1, 60)
    assert time.time() * 1000 >= due_ms and not server.letters(state="due") and not server.letters()


def test_a_delayed_event_can_be_cancelled(server):
    said = weir_of(server, "run-at", "job", "+1h", "--data", "{}")
    id = said.stdout.splitlines()[-1]
    assert id in weir_of(server, "dlq", "list", "--state", "due").stdout and id in said.stderr
    assert "1 letter discarded" in weir_of(server, "dlq", "discard", id).stdout
    assert server.letter(id)["state"] == "discarded" and server.letters(state="due") == []


def test_a_delayed_event_survives_a_crash(server):
    weir_of(server, "run-at", "job", "+8s")
    server.kill9()
    server.start()
    wait_until(lambda: server.metric("weir_events_ok_total", "job") == 1, 60)


def test_a_time_that_has_passed_means_at_once(server):
    assert "runs at once" in weir_of(server, "run-at", "job", "2020-01-01").stdout
    wait_until(lambda: server.metric("weir_events_ok_total", "job") == 1, 20)


def test_the_server_refuses_what_cannot_be(server):
    soon = int(time.time() * 1000) + 60000
    for query, status in ((f"invokeType=Event&runAt={soon + 367 * 86400000}", 400), (f"runAt={soon}", 400), (f"invokeType=Event&each=line&runAt={soon}", 400),
                          ("invokeType=Event&runAt=soon", 400), (f"invokeType=Event&qualifier=9&runAt={soon}", 404)):
        assert server.http("POST", f"/v1/functions/job/invocations?{query}", b"{}")[0] == status
    assert "there is no function" in weir_of(server, "run-at", "nobody", "+1m", rc=1).stderr
    assert not server.letters(state="due")


def test_a_timer_from_adding_to_its_history(server):
    said = weir_of(server, "trigger", "add", "job", "timer", "cron=*/2 * * * * * *", "tz=Europe/Berlin", "message={\"a\":1}").stdout
    assert said.startswith("job added: */2 * * * * * * runs job")
    assert "every 2 seconds" in weir_of(server, "cron", "next", "job").stdout
    listed = weir_of(server, "cron", "list").stdout.splitlines()
    assert len(listed) == 2 and "Europe/Berlin" in listed[1]
    history = lambda: json.loads(weir_of(server, "cron", "history", "job", "--outcome", "ok", "--json").stdout)["fires"]
    found = wait_until(lambda: len(history()) >= 2 and history(), 60)
    assert all(one["scheduledMs"] % 2000 == 0 and one["cause"] == "schedule" for one in found)
    weir_of(server, "trigger", "pause", "job")
    assert "  message" in weir_of(server, "trigger", "show", "job").stdout
    assert "*/2 * * * * * *" in weir_of(server, "trigger", "list").stdout


def test_a_fire_by_hand_is_waited_for(server):
    weir_of(server, "trigger", "add", "job", "timer", "cron=0 0 3 1 1 *", "--name", "yearly")
    assert "ok after" in weir_of(server, "trigger", "fire", "yearly", "--wait").stdout
    done = weir_of(server, "trigger", "fire", "yearly", "--data", "bad", "--wait", rc=1)
    assert "the fire ended dead" in done.stderr
    fires = json.loads(weir_of(server, "cron", "history", "yearly", "--json").stdout)["fires"]
    assert [(one["cause"], one["outcome"]) for one in fires] == [("manual", "dead"), ("manual", "ok")]
    assert [one["id"] for one in server.letters()] == [fires[0]["requestId"]]


def test_a_backfill_runs_each_time_once(server):
    weir_of(server, "trigger", "add", "job", "timer", "cron=@hourly", "--name", "hourly")
    period = ("--from", "2026-01-05T00:00:00Z", "--to", "2026-01-05T12:00:00Z")
    assert "hourly has 12 times" in weir_of(server, "cron", "backfill", "hourly", *period, "--dry-run").stdout
    assert server.metric("weir_events_ok_total", "job") == 0
    assert weir_of(server, "cron", "backfill", "hourly", *period, "--yes").stdout.splitlines()[-1] == "12 of 12: 12 ok"
    assert weir_of(server, "cron", "backfill", "hourly", *period, "--yes").stdout.splitlines()[-1] == "12 of 12: 0 ok, 12 had run"
    wait_until(lambda: server.metric("weir_events_ok_total", "job") == 12, 20)
    fires = json.loads(weir_of(server, "cron", "history", "hourly", "--json").stdout)["fires"]
    assert [one["scheduledMs"] for one in fires] == [MONDAY_MS + i * HOUR_MS for i in range(11, -1, -1)]
    assert server.http("POST", "/v1/triggers/hourly/fires", {"scheduledMs": MONDAY_MS + 1000})[0] == 400


def test_paths_of_timers_refuse_other_triggers(server):
    for method, path in (("GET", "next"), ("GET", "fires"), ("POST", "fires")):
        assert server.http(method, f"/v1/triggers/nobody/{path}")[0] == 404
    weir_of(server, "trigger", "add", "job", "timer", "every=1h")
    for query in ("next?count=0", "next?after=x", "fires?limit=0", "fires?before=x"):
        assert server.http("GET", f"/v1/triggers/job/{query}")[0] == 400
    assert "every 1h" in weir_of(server, "trigger", "list").stdout
    assert "@every 1h" in weir_of(server, "cron", "next", "job").stdout


def test_a_wrong_timer_is_refused_by_its_setting(server):
    assert "field 3 (hour)" in weir_of(server, "trigger", "add", "job", "timer", "cron=0 0 24 * * *", rc=1).stderr
    assert "Europe/Berlin" in weir_of(server, "trigger", "add", "job", "timer", "cron=@daily", "tz=Europe/Berln", rc=1).stderr
    assert "no timers" in weir_of(server, "cron", "list").stderr
