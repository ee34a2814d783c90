# SPDX-License-Identifier: Apache-2.0
"""Timers on one server: what the function sees, when it fires and when it does not, what its history says, and what is left
of it when the server dies."""
import base64
import json
import signal

import pytest

from load import let_leases_run_out
from server import Refused
from timers import (ALONE, DAY, FUNCTION, HOUR, MINUTE, QUICK, SECOND, SLOW_MS, Journal, act, add, call, change, check_once, coming, deploy,
                    fire, fire_at, fires, ms_of, now_ms, promised, remove, second_from_now, text_of, times, try_add, try_fire, wait_fires)
from waiting import wait_until

SEES = '''
import base64
import json
from collect import tell

def main_handler(event, context):
    tell("sees", context["request_id"], base64.b64encode(json.dumps(event).encode()).decode())
'''
RARE = {"cron": "0 0 0 1 1 *"}  # for timers that a test fires by hand


@pytest.fixture
def journal(collector):
    return Journal(collector)


@pytest.fixture
def server(serve, backend):
    made = serve(backend=backend)
    deploy(made)
    return made


@pytest.fixture
def alone(serve):
    """Embedded, and its handlers see the files of the test."""
    made = serve(ALONE)
    deploy(made)
    return made


def wait_runs(journal, name, count, seconds=60):
    return wait_until(lambda: len(journal.runs(name)) >= count and journal.runs(name), seconds,
                      lambda: f"{name} ran {count} times: {journal.runs(name)}")


# ---- what the function sees ------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_what_the_function_sees(serve, backend, collector):
    server = serve(backend=backend)
    server.deploy("sees", SEES)
    message = '{"kind":"daily"}'
    fired = {}
    for shape in ("scf", "fc", "lambda", "cloudevents", "raw"):
        add(server, shape, function="sees", shape=shape, message=message, **RARE)
        fired[shape] = fire(server, shape)
    add(server, "bare", function="sees", **RARE)
    fired["bare"] = fire(server, "bare")
    wait_until(lambda: collector.count("sees") >= len(fired), 20, "all of them ran")
    seen = {words[1]: json.loads(base64.b64decode(words[2])) for words in map(str.split, collector.lines)}
    events = {shape: seen[answer["requestId"]] for shape, answer in fired.items()}
    at = {shape: text_of(answer["scheduledMs"]) for shape, answer in fired.items()}
    assert events["scf"] == {"Type": "Timer", "TriggerName": "scf", "Time": at["scf"], "Message": message}
    assert events["bare"] == {"Type": "Timer", "TriggerName": "bare", "Time": at["bare"], "Message": ""}
    assert events["fc"] == {"triggerTime": at["fc"], "triggerName": "fc", "payload": message}
    assert events["raw"] == {"kind": "daily"}
    said = events["lambda"]
    assert (said["detail-type"], said["source"], said["time"]) == ("Scheduled Event", "aws.events", at["lambda"])
    assert said["detail"] == {"kind": "daily"} and said["id"] == fired["lambda"]["requestId"]
    assert said["resources"] == ["arn:weir:events:::rule/lambda"]
    said = events["cloudevents"]
    assert (said["specversion"], said["time"], said["data"]) == ("1.0", at["cloudevents"], {"kind": "daily"})


@pytest.mark.short
def test_a_timer_fires_at_its_times_and_its_history_says_so(server, journal):
    start = second_from_now(2)
    made = add(server, start=start, end=start + 4 * SECOND, every="1s", message="words")
    assert (made["name"], made["kind"], made["state"]) == (FUNCTION, "timer", "active")
    assert coming(server, FUNCTION, after=start - 1) == [start + n * SECOND for n in range(4)]
    expected = promised(made, [start + n * SECOND for n in range(4)])
    wait_fires(server, FUNCTION, len(expected))
    check_once(server, journal, FUNCTION, expected)
    for each in fires(server, FUNCTION):
        assert (each["cause"], each["missed"], each["attempts"], each["error"]) == ("schedule", 0, 1, None)
        assert each["lagMs"] == each["firedMs"] - each["scheduledMs"] >= 0
        assert each["endedMs"] == each["firedMs"] + each["durationMs"]
    assert all(run.at_ms >= run.scheduled_ms for run in journal.runs())
    assert coming(server, FUNCTION) == [], "its end has come"


def test_expressions_and_periods_agree_with_what_next_says(server):
    after = ms_of("2026-03-28T00:00:00Z")
    add(server, "berlin", cron="0 30 2 * * * *", tz="Europe/Berlin")
    add(server, "weekly", cron="CRON_TZ=Asia/Tokyo 0 9 * * 1-5")
    add(server, "period", every="90m", start=after)
    said = call(server, "GET", "/v1/triggers/berlin/next", after=after, count=3)
    assert [(each["utc"], each["local"], each["mark"]) for each in said["fires"]] == [
        ("2026-03-28T01:30:00Z", "2026-03-28T02:30:00+01:00", None),
        ("2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00", "gap-end"),
        ("2026-03-30T00:30:00Z", "2026-03-30T02:30:00+02:00", None)]
    assert (said["zone"], said["function"], said["state"]) == ("Europe/Berlin", FUNCTION, "active") and said["words"]
    assert [text_of(ms) for ms in coming(server, "weekly", after=after, count=2)] == ["2026-03-30T00:00:00Z", "2026-03-31T00:00:00Z"]
    until = after + DAY
    assert coming(server, "period", after=after, until=until, count=100) == [after + n * 90 * MINUTE for n in range(1, 16)]


# ---- fires that overlap ----------------------------------------------------------------------------------------------------


def test_overlap(serve, journal, folder):
    """Each of the four holds its fires until its gate opens. A fire that is to be retried is not over either."""
    alone = serve({**ALONE, "max-instances": 16})
    deploy(alone, maxInstances=12, timeoutMs=300_000)
    deploy(alone, "slow", backoffMs=[600_000, 50, 50], maxInstances=2)
    words = ("allow", "skip", "queue", "cancel")
    gates = {word: folder / f"gate-{word}" for word in words}
    start = second_from_now(3)
    last = start + 4 * SECOND
    period = {"every": "1s", "start": start, "end": start + 5 * SECOND}
    made = {word: add(alone, word, overlap=word, message={"hold": str(gates[word])}, **period) for word in words}
    made["again"] = add(alone, "again", function="slow", overlap="skip", message={"fails": 1}, **period)
    due = {name: promised(trigger, range(start, last + 1, SECOND)) for name, trigger in made.items()}
    wait_until(lambda: all(fire_at(alone, name, last) for name in due), 60, "all times are decided")

    def wait_outcomes(name, wanted):
        wait_until(lambda: outcomes(alone, name) == wanted[:len(due[name])], 60, lambda: f"{name} has {wanted}: {fires(alone, name)}")
    wait_outcomes("allow", ["running"] * 5)
    wait_outcomes("skip", ["running"] + ["skipped"] * 4)
    wait_outcomes("queue", ["running", "waiting"] + ["skipped"] * 3)
    wait_outcomes("again", ["retrying"] + ["skipped"] * 4)
    wait_until(lambda: outcomes(alone, "cancel") == ["cancelled"] * (len(due["cancel"]) - 1) + ["running"], 60, "the last of cancel is left")
    begun = {"allow": due["allow"], "skip": due["skip"][:1], "queue": due["queue"][:1]}
    for name, wanted in begun.items():
        wait_until(lambda: len(journal.begun(name)) >= len(wanted), 60, f"{name} runs")
        assert sorted(run.scheduled_ms for run in journal.begun(name)) == wanted
    wait_until(lambda: last in {run.scheduled_ms for run in journal.begun("cancel")}, 60, "the last of cancel runs")
    assert journal.runs() == [], "nothing is over while the gates are shut"

    for gate in gates.values():
        gate.touch()
    wait_outcomes("queue", ["ok", "ok"] + ["skipped"] * 3)
    wait_outcomes("allow", ["ok"] * 5)
    wait_outcomes("skip", ["ok"] + ["skipped"] * 4)
    wait_fires(alone, "cancel", 1)
    assert outcomes(alone, "cancel") == ["cancelled"] * (len(due["cancel"]) - 1) + ["ok"]
    assert journal.times("queue") == due["queue"][:2], "it has its own time, not that at which it was let go"
    assert journal.times("cancel") == [last] and journal.times("skip") == due["skip"][:1]
    assert not [run for run in journal.begun("cancel") if run.attempt > 1], "what was cancelled is not tried again"

    call(alone, "POST", "/v1/letters/retry", {"ids": [fires(alone, "again")[0]["requestId"]]})
    wait_outcomes("again", ["ok"] + ["skipped"] * 4)
    assert fires(alone, "again")[0]["attempts"] == 2
    by_hand = fire(alone, "again")["requestId"]
    wait_until(lambda: fires(alone, "again")[-1]["outcome"] == "retrying", 60, "after the last attempt of one the next one runs")
    call(alone, "POST", "/v1/letters/retry", {"ids": [by_hand]})
    wait_until(lambda: fires(alone, "again")[-1]["outcome"] == "ok", 60, "and ends")
    wait_until(lambda: alone.letters(state="due") == [], 60, "nothing is due")
    assert alone.letters(state="dead") == []


def outcomes(server, name):
    return [each["outcome"] for each in fires(server, name)]


# ---- when it fires ---------------------------------------------------------------------------------------------------------


def test_jitter(alone, journal):
    """A fire is late by up to that, by another time each, and by the same after a restart."""
    start = second_from_now(4)
    names = [f"shaken{n}" for n in range(20)]
    made = {name: add(alone, name, every="2s", jitter="3s", start=start, end=start + 4 * SECOND) for name in names}
    for n in range(20):
        add(alone, f"rare{n}", jitter="1h", cron="0 0 0 1 1 *")
    first = {name: (next_ms(alone, name), now_ms()) for name in names}
    far = {f"rare{n}": next_ms(alone, f"rare{n}") for n in range(20)}
    assert all(0 <= ms - coming(alone, name, count=1)[0] <= HOUR for name, ms in far.items()) and len(set(far.values())) > 15
    assert max(far.values()) - min(far.values()) > HOUR // 4
    due = {name: promised(made[name], [start, start + 2 * SECOND]) for name in names}
    for name in names:
        wait_fires(alone, name, len(due[name]))
        check_once(alone, journal, name, due[name])
    for name, (ms, asked_ms) in first.items():
        fired = [each["firedMs"] for each in fires(alone, name) if each["firedMs"] > asked_ms]
        assert not fired or fired[0] >= ms, "before its jitter was over"
    lags = [each["lagMs"] for name in names for each in fires(alone, name)]
    assert min(lags, default=0) >= 0 and max(lags, default=0) < 3000 + SLOW_MS, "later than its jitter allows"
    alone.restart()
    assert {name: next_ms(alone, name) for name in far} == far


def next_ms(server, name):
    return call(server, "GET", f"/v1/triggers/{name}/lag")["timer"]["nextMs"]


def test_pause_change_remove_and_delete(alone, journal):
    """While a witness goes on, which tells that time has passed."""
    add(alone, "witness", every="1s")
    deploy(alone, "other")
    add(alone, "theirs", function="other", every="1s")
    wait_runs(journal, "theirs", 1)
    for name in ("paused", "changed", "removed"):
        add(alone, name, every="1s", catchup="all")
        wait_runs(journal, name, 1)
    paused_ms = act(alone, "paused", "pause")["changedMs"]
    changed_ms = change(alone, "changed", every=None, cron="0 0 0 1 1 *")["changedMs"]
    remove(alone, "removed")
    alone.delete("other")
    removed_ms = now_ms()
    assert alone.http("GET", "/v1/triggers/theirs")[0] == 404, "a deleted function takes its timers along"
    assert alone.http("GET", "/v1/triggers/removed/next")[0] == alone.http("GET", "/v1/triggers/removed/fires")[0] == 404
    assert next_ms(alone, "paused") is None and coming(alone, "changed", count=1)[0] > changed_ms + MINUTE
    wait_until(lambda: journal.times("witness")[-1] > paused_ms + 3 * SECOND, 60, "time passes")
    resumed_ms = act(alone, "paused", "resume")["changedMs"]
    assert resumed_ms - paused_ms > 3 * SECOND
    wait_until(lambda: times(fires(alone, "paused"))[-1] > resumed_ms, 60, "it goes on")
    meanwhile = [each for each in fires(alone, "paused") if each["scheduledMs"] > paused_ms]
    assert meanwhile[0]["scheduledMs"] > resumed_ms and meanwhile[0]["missed"] == 0, "what was paused is caught up"
    assert times(fires(alone, "changed"))[-1] <= changed_ms, "it still fires by the old expression"
    assert max(journal.times("removed") + journal.times("theirs")) <= removed_ms, "it still fires"
    assert "other" not in {letter["function"] for letter in alone.letters(state="due")}
    again = add(alone, "removed", every="1s")
    wait_until(lambda: fires(alone, "removed"), 20, "the new one fires")
    assert times(fires(alone, "removed"))[0] > again["createdMs"], "the new one has the history of the old one"


BAD_SETTINGS = [  # what it says must name the setting
    ({}, "cron"),
    ({"cron": "0 0 24 * * *"}, "cron"),
    ({"cron": "* *"}, "cron"),
    ({"cron": "0 0 0 31 2 ? *"}, "never fire"),
    ({"every": "soon"}, "every"),
    ({"every": "1s", "cron": "@daily"}, "every"),
    ({"cron": "@daily", "tz": "Europe/Berlyn"}, "Europe/Berlin"),
    ({"cron": "@daily", "tz": "../etc/passwd"}, "tz"),
    ({"cron": "@daily", "dst": "never"}, "dst"),
    ({"cron": "@daily", "catchup": "some"}, "catchup"),
    ({"cron": "@daily", "max": "0"}, "max"),
    ({"cron": "@daily", "catchup_window": "-1d"}, "catchup_window"),
    ({"cron": "@daily", "overlap": "maybe"}, "overlap"),
    ({"cron": "@daily", "jitter": "2d"}, "jitter"),
    ({"cron": "@daily", "start": "tomorrow"}, "start"),
    ({"cron": "@daily", "start": "2026-12-02", "end": "2026-12-01"}, "end"),
    ({"cron": "@daily", "message": "x" * 50000}, "message"),
    ({"cron": "@daily", "shape": "round"}, "shape"),
    ({"cron": "@daily", "catch_up": "all"}, "catchup"),
    ({"cron": "@daily", "brokers": "127.0.0.1:9092"}, "brokers"),
]


@pytest.mark.short
def test_bad_settings_are_refused_by_name(serve):
    server = serve()
    deploy(server)
    for settings, named in BAD_SETTINGS:
        status, answer = try_add(server, **settings)
        assert status == 400 and named in answer["message"], f"{settings}: {status} {answer}"
    assert try_add(server, function="nobody", **RARE)[0] == 404
    add(server, **RARE)
    assert try_add(server, **RARE)[0] == 409
    status, _, answer = server.http("PATCH", f"/v1/triggers/{FUNCTION}", {"settings": {"cron": "0 0 25 * * *"}})
    assert status == 400 and "cron" in answer["message"]
    assert call(server, "GET", f"/v1/triggers/{FUNCTION}")["settings"]["cron"] == RARE["cron"]
    assert server.http("POST", f"/v1/triggers/{FUNCTION}/seek", {"to": "earliest"})[0] == 400
    assert server.http("GET", f"/v1/triggers/{FUNCTION}/next?count=0")[0] == 400
    assert server.http("GET", "/v1/triggers/nobody/fires")[0] == 404


# ---- by hand ---------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_fire_by_hand_and_a_backfill(server, journal):
    today = (now_ms() - 12 * HOUR) // HOUR * HOUR  # its time of day, which is far from now
    add(server, cron=f"0 {today % DAY // HOUR} * * *", message="theirs")
    by_hand = fire(server, FUNCTION)
    assert abs(by_hand["scheduledMs"] - now_ms()) < MINUTE
    past = [today - n * DAY for n in (3, 2, 1)]
    backfilled = [fire(server, FUNCTION, scheduledMs=ms) for ms in past]
    assert [answer["scheduledMs"] for answer in backfilled] == past
    for ms in past:
        status, answer = try_fire(server, FUNCTION, scheduledMs=ms)
        assert status == 409, answer
    status, answer = try_fire(server, FUNCTION, scheduledMs=today - HOUR)
    assert status == 400 and "no time of the schedule" in answer["message"]
    status, answer = try_fire(server, FUNCTION, scheduledMs=today + 2 * DAY)
    assert status == 400, "a time that has not come would not fire when it does"
    assert try_fire(server, "nobody")[0] == 404
    history = wait_fires(server, FUNCTION, 4)
    assert [(each["scheduledMs"], each["cause"]) for each in history] == [
        *((ms, "backfill") for ms in past), (by_hand["scheduledMs"], "manual")]
    assert {each["requestId"] for each in history} == {answer["requestId"] for answer in [by_hand, *backfilled]}
    assert journal.times(FUNCTION)[:3] == past and journal.repeated() == {}
    act(server, FUNCTION, "pause")
    fire(server, FUNCTION, data={"n": 1})  # by hand it fires when it is paused, too
    wait_fires(server, FUNCTION, 5)


def test_many_fires_by_hand_at_once_are_many(server, journal):
    add(server, overlap="skip", **RARE)
    ids = {fire(server, FUNCTION)["requestId"] for _ in range(20)}
    assert len(ids) == 20
    wait_fires(server, FUNCTION, 20)
    assert {run.id for run in journal.runs()} == ids and journal.repeated() == {}


# ---- fires that fail -------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_fire_that_fails_is_retried_and_then_a_letter(server, journal):
    deploy(server, "poor", backoffMs=[600_000, 50, 50])
    add(server, "poor", function="poor", message={"fails": 99}, **RARE)
    add(server, "once", message={"fails": 1}, **RARE)
    id = fire(server, "poor")["requestId"]
    fire(server, "once")
    wait_until(lambda: outcomes(server, "poor") == ["retrying"], 20, lambda: f"it is retried: {fires(server, 'poor')}")
    assert fires(server, "poor")[0]["attempts"] == 1 and "as wished" in fires(server, "poor")[0]["error"]
    call(server, "POST", "/v1/letters/retry", {"ids": [id]})
    [dead] = wait_fires(server, "poor", 1, "dead")
    assert dead["attempts"] == 4 and "as wished" in dead["error"] and dead["endedMs"]
    [once] = wait_fires(server, "once", 1)
    assert once["attempts"] == 2
    assert [letter["id"] for letter in server.wait_letters(1, state="dead")] == [id]
    assert [run.attempt for run in journal.begun("poor")] == [1, 2, 3, 4]

    assert server.deploy("poor", "def main_handler(event, context): return 1") == 2
    [dead] = fires(server, "poor")
    assert server.replay(ids=[id])["sent"] == 1
    wait_until(lambda: server.metric("weir_events_ok_total", "poor") == 1, 60, "the replay succeeds")
    [still] = fires(server, "poor")
    assert (still["outcome"], still["attempts"], still["endedMs"]) == ("dead", 4, dead["endedMs"]), "its own end is what it was"


def test_a_letter_that_is_discarded_ends_its_fire(server):
    deploy(server, "poor", backoffMs=[600_000, 50, 50])
    add(server, "poor", function="poor", message={"fails": 99}, **RARE)
    id = fire(server, "poor")["requestId"]
    wait_fires(server, "poor", 1, "retrying")
    call(server, "POST", "/v1/letters/discard", {"ids": [id]})
    wait_until(lambda: outcomes(server, "poor") == ["discarded"], 20, lambda: f"its history says so: {fires(server, 'poor')}")


def test_one_that_hangs_or_dies_delays_no_other(alone, journal):
    deploy(alone, "hang", timeoutMs=120_000, maxInstances=2)
    deploy(alone, "dies", maxInstances=2)
    start = second_from_now(2)
    for n in range(3):
        add(alone, f"hang{n}", function="hang", every="1s", start=start, message={"hangs": True})
        add(alone, f"dies{n}", function="dies", every="1s", start=start, message={"dies": True})
    names = [f"tick{n}" for n in range(5)]
    due = {name: promised(add(alone, name, every="1s", start=start, end=start + 7 * SECOND), range(start, start + 7 * SECOND, SECOND))
           for name in names}
    for name in names:
        wait_fires(alone, name, len(due[name]), seconds=60)
        check_once(alone, journal, name, due[name])
    wait_until(lambda: journal.begun("hang0") and journal.begun("dies0"), 60, "they do harm")
    lag = max((each["lagMs"] for name in names for each in fires(alone, name)), default=0)
    took = max((each["durationMs"] for name in names for each in fires(alone, name)), default=0)
    print(f"\nmost lag {lag} ms, most from firing to the end {took} ms")
    assert lag < 10 * SECOND and took < 10 * SECOND, "one waited for another that hangs, which takes two minutes"
    count = alone.metric("weir_timer_fire_lag_seconds_count", FUNCTION)
    assert count == sum(map(len, due.values()))
    assert 0 <= alone.metric("weir_timer_fire_lag_seconds_sum", FUNCTION) <= count * SLOW_MS / 1000
    for n in range(3):  # so that the server can end
        remove(alone, f"hang{n}")
        remove(alone, f"dies{n}")


# ---- once, at a given time -------------------------------------------------------------------------------------------------


def discarded_in_time(server):
    """An event that was discarded before it was due, and when that was to be."""
    for seconds in (3, 20, 60):
        at = second_from_now(seconds)
        id = server.send("sees", {}, runAt=at)
        if call(server, "POST", "/v1/letters/discard", {"ids": [id]})["discarded"]:
            return id, at
    raise AssertionError("it was due each time")


@pytest.mark.short
def test_run_at(server, collector):
    server.deploy("sees", SEES)
    at = now_ms() + 2500
    soon = server.send("sees", {"n": 1}, runAt=at)
    text_at = second_from_now(2)
    as_text = server.send("sees", {"n": 2}, runAt=text_of(text_at))
    past = server.send("sees", {"n": 3}, runAt=at - HOUR)
    later = [server.send("sees", {"n": n}, runAt=now_ms() + DAY) for n in (4, 5)]
    heard = lambda id: any(words[1] == id for words in map(str.split, collector.lines))
    wait_until(lambda: heard(past), 20, "a time that has passed means at once")
    due = {letter["id"] for letter in server.letters(state="due")}
    assert due >= set(later)
    assert due == {soon, as_text, *later} or now_ms() >= min(at, text_at), "they wait for their time"
    ran = heard(soon)
    assert not ran or now_ms() >= at
    wait_until(lambda: heard(soon) and heard(as_text), 60, "they run")
    assert now_ms() >= at
    wait_until(lambda: {letter["id"] for letter in server.letters(state="due")} == set(later), 20, "what ran is due no more")
    never, at = discarded_in_time(server)
    last = server.send("sees", {"n": 6}, runAt=at + SECOND)
    wait_until(lambda: heard(last), 60, "one that was due later ran")
    assert not heard(never) and not any(map(heard, later))
    for query in ({"runAt": "2026-12-24T18:00"}, {"runAt": now_ms() + 400 * DAY}, {"runAt": at, "each": "line"}):
        with pytest.raises(Refused) as refused:
            server.send("sees", b"{}", **query)
        assert refused.value.status == 400 and "runAt" in refused.value.body["message"]
    assert server.invoke("sees", {}, runAt=at)[0] == 400


# ---- the server dies -------------------------------------------------------------------------------------------------------


def test_kill_between_and_in_the_middle_of_fires(alone, journal, folder):
    """Nothing is lost, and only what ran at the kill runs again."""
    gate = folder / "gate"
    start = second_from_now(3)
    end = start + 9 * SECOND
    quick = add(alone, "quick", every="1s", start=start, end=end)
    held = add(alone, "held", every="3s", start=start, end=end, message={"hold": str(gate)})
    let, let_held = promised(quick, range(start, end, SECOND)), promised(held, range(start, end, 3 * SECOND))
    wait_until(lambda: journal.begun("held") and journal.runs("quick"), 20, "one is over, and one runs")
    alone.kill9()
    alone.start()
    gate.touch()
    wait_runs(journal, "quick", 4)
    alone.kill9()
    alone.start()
    wait_until(lambda: journal.times("quick") == let and journal.times("held") == let_held, 180,
               lambda: f"all of them ran: {journal.ids()}")
    wait_fires(alone, "quick", len(let))
    wait_fires(alone, "held", len(let_held))
    check_once(alone, journal, "quick", let)
    check_once(alone, journal, "held", let_held)
    print(f"\n{len(journal.repeated())} events ran twice after two kills")


# Where it dies: a fault point of the server (core/base/fault.h), and how often it is passed before.
POINTS = [("fires.decided", 2), ("ingest.published", 3), ("due.published", 2), ("delivery.sent", 3), ("delivery.finished", 3),
          ("fire.ended", 3), ("delivery.settled", 3)]


def add_for_point(server, point):
    """Nine fires that are due when the server runs again; what the kill before left over ends meanwhile. Their (name, time), with those of
    tries in which the machine was too slow: some were due before the server was stopped."""
    found = []
    for seconds in (4, 16, 64):
        server.start()
        start = second_from_now(seconds)
        for n in range(3):
            made = add(server, f"{point.replace('.', '-')}-{seconds}-{n}", every="1s", start=start, end=start + 3 * SECOND)
            found += [(made["name"], ms) for ms in promised(made, range(start, start + 3 * SECOND, SECOND))]
        assert server.stop() == 0
        if now_ms() < start:
            return found
    raise AssertionError("it cannot be stopped in time")


def test_kill_at_each_state_of_a_fire(serve, backend, journal):
    server = serve(backend=backend)
    deploy(server)
    server.stop()
    expected = []
    for point, passed in POINTS:
        expected += add_for_point(server, point)
        server.env["WEIR_CRASH_AT"] = f"{point}:{passed}"
        server.start()
        wait_until(lambda: not server.alive, 60, f"the server reaches {point}")
        assert server.process.wait() == -signal.SIGKILL, f"{point}: it ended otherwise:\n{server.log_text()[-3000:]}"
        del server.env["WEIR_CRASH_AT"]
        let_leases_run_out(server, backend)
    server.start()
    wait_until(lambda: set(journal.ids()) >= set(expected), 120, lambda: f"all ran; {sorted(set(expected) - set(journal.ids()))} did not")
    assert {key: len(ids) for key, ids in journal.ids().items()} == {key: 1 for key in expected}
    for name in {name for name, _ in expected}:
        wanted = [ms for other, ms in expected if other == name]
        history = wait_fires(server, name, len(wanted))
        assert times(history) == wanted
        assert {(name, each["scheduledMs"]): {each["requestId"]} for each in history}.items() <= journal.ids().items()
    print(f"\n{len(expected)} fires, {len(POINTS)} kills, {len(journal.repeated())} events ran twice ({backend.kind})")
