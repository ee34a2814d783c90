# SPDX-License-Identifier: Apache-2.0
"""Timers and the calendar: weeks without a server, clocks that are set, daylight saving, zone data that changes. The servers believe
in clocks of the tests (libfaketime); with PostgreSQL, whose clock they go by, what is stored is made older instead."""
import datetime
import shutil

import psycopg2
import pytest

from timers import (ALONE, DAY, HOUR, MINUTE, SECOND, Clock, Journal, add, call, check_once, coming, deploy, fires, ms_of, now_ms, text_of, times,
                    wait_fires)
from waiting import wait_until

ZONES = "/usr/share/zoneinfo"


@pytest.fixture
def journal(collector):
    return Journal(collector)


@pytest.fixture
def clocked(serve):
    """clocked(at) starts a server whose clock shows that; returns both."""
    made = []

    def make(at, env=None):
        made.append(Clock(at=at))
        server = serve(ALONE, env={**made[-1].env, **(env or {})})
        deploy(server)
        return server, made[-1]
    yield make
    for clock in made:
        clock.close()


# ---- two weeks off ---------------------------------------------------------------------------------------------------------

# What catches up: settings -> which of the times that passed, by (all of them, when it was caught up).
POLICIES = {
    "default": ({}, lambda passed, now: passed[-1:]),
    "none": ({"catchup": "none"}, lambda passed, now: []),
    "last": ({"catchup": "last"}, lambda passed, now: passed[-1:]),
    "all": ({"catchup": "all"}, lambda passed, now: passed),
    "five": ({"catchup": "all", "max": 5}, lambda passed, now: passed[-5:]),
    "window": ({"catchup": "all", "catchup_window": "54h"}, lambda passed, now: [ms for ms in passed if ms >= now - 54 * HOUR]),
    "both": ({"catchup": "all", "max": 5, "catchup_window": "2h"}, lambda passed, now: [ms for ms in passed if ms >= now - 2 * HOUR]),
    "fresh": ({"catchup": "last", "catchup_window": "1h"}, lambda passed, now: [ms for ms in passed[-1:] if ms >= now - HOUR]),
}


def add_policies(server, minute):
    """A daily and an hourly timer of each policy, at that minute. {name: (period, policy)}"""
    found = {}
    for policy, (settings, _) in POLICIES.items():
        add(server, f"hourly-{policy}", cron=f"0 {minute} * * * *", **settings)
        add(server, f"daily-{policy}", cron=f"0 {minute} 12 * * *", **settings)
        found |= {f"hourly-{policy}": (HOUR, policy), f"daily-{policy}": (DAY, policy)}
    return found


def passed_times(period, minute, from_ms, to_ms):
    first = from_ms // period * period + minute * MINUTE + (12 * HOUR if period == DAY else 0)
    return [ms for ms in range(first - period, to_ms + 1, period) if from_ms < ms <= to_ms]


def check_policy(server, journal, name, passed, expected):
    """Those happened, once each, and the history tells of the others."""
    def settled():
        history = fires(server, name)
        return history and all(each["outcome"] in ("ok", "missed") for each in history) and journal.times(name) == expected and history
    history = wait_until(settled, 120, lambda: f"{name}: {[text_of(ms) for ms in expected]} ran; {fires(server, name)[-5:]}")
    ran = [each for each in history if each["outcome"] == "ok"]
    assert times(ran) == expected, name
    assert {each["cause"] for each in history} == {"catchup"}
    assert sum(each["missed"] + (each["outcome"] == "missed") for each in history) == len(passed) - len(expected), (name, history)
    assert all(each["missed"] == 0 for each in history[1:]), "all that was missed is before the first"
    if not expected:
        assert times(history) == passed[-1:] and history[0]["requestId"] is None


def check_policies(server, journal, added, minute, from_ms, now):
    for name, (period, policy) in added.items():
        passed = passed_times(period, minute, from_ms, now)
        assert len(passed) in (14, 13, 336, 335, 337), passed
        check_policy(server, journal, name, passed, POLICIES[policy][1](passed, now))
    assert journal.repeated() == {}


def test_two_weeks_off(clocked, journal):
    server, clock = clocked("2026-06-01T10:30:00Z")
    added = add_policies(server, 0)
    assert server.stop() == 0
    from_ms = clock.now_ms()
    clock.move(14 * DAY / SECOND)
    server.start()
    check_policies(server, journal, added, 0, from_ms, clock.now_ms())


def test_two_weeks_off_with_postgres(serve, database, journal):
    server = serve({**ALONE, "store": database})
    deploy(server)
    minute = (datetime.datetime.now(datetime.timezone.utc).minute + 30) % 60  # far from now
    added = add_policies(server, minute)
    add(server, "witness", every="1s")  # has a cursor
    wait_fires(server, "witness", 1)
    assert server.stop() == 0
    from_ms = now_ms() - 14 * DAY
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM triggers WHERE name = 'witness'")
        cursor.execute("UPDATE triggers SET created_ms = created_ms - %s, changed_ms = changed_ms - %s", (14 * DAY, 14 * DAY))
        cursor.execute("UPDATE fire_cursors SET cursor_ms = cursor_ms - %s", (14 * DAY,))
    server.start()
    check_policies(server, journal, added, minute, from_ms, now_ms())


# ---- a clock that is set ---------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_and_forward(clocked, journal):
    """Alone, with a clock of its own: what was decided does not come again, and what was jumped over comes."""
    server, clock = clocked("2026-06-01T10:30:00Z")
    add(server, "often", cron="* * * * * *", catchup="all", max=10000)
    wait_fires(server, "often", 3)
    clock.move(-3600)
    wait_clock(server, "often", clock)
    add(server, "witness", every="1s")
    wait_fires(server, "witness", 1)  # what was decided by the clock before is written
    last = fires(server, "often")[-1]["scheduledMs"]
    wait_fires(server, "witness", 5)
    assert fires(server, "witness")[-1]["scheduledMs"] < last - 50 * MINUTE
    assert fires(server, "often")[-1]["scheduledMs"] == last, "it fires what is still to come"
    clock.move(3600)
    wait_until(lambda: fires(server, "often")[-1]["scheduledMs"] > last + 3 * SECOND, 60, "it goes on")
    clock.move(300)
    wait_clock(server, "often", clock)
    jumped = clock.now_ms()
    wait_until(lambda: fires(server, "often")[-1]["scheduledMs"] > jumped + 3 * SECOND, 60, "it goes on behind the jump")
    until = fires(server, "often")[-1]["scheduledMs"]

    def so_far():
        return [each for each in fires(server, "often") if each["scheduledMs"] <= until]
    wait_until(lambda: {each["outcome"] for each in so_far()} == {"ok"}, 120, "all ran")
    assert times(so_far()) == list(range(so_far()[0]["scheduledMs"], until + 1, SECOND)), "one is missing, or there is one too many"
    assert len(so_far()) > 300 and {each["cause"] for each in so_far()} == {"schedule", "catchup"}
    ran = {ms: len(ids) for (_, ms), ids in journal.ids("often").items() if ms <= until}
    assert ran == {ms: 1 for ms in times(so_far())} and journal.repeated() == {}


def test_a_clock_that_was_wrong_for_a_while(clocked, journal):
    """It was two hours ahead. The timers do not wait for that hour to come; what fired then does not fire again."""
    server, clock = clocked("2026-06-01T10:30:00Z")
    add(server, "often", every="1s")
    wait_fires(server, "often", 3)
    clock.move(7200)
    wait_clock(server, "often", clock)
    wrong = clock.now_ms()
    wait_until(lambda: fires(server, "often")[-1]["scheduledMs"] > wrong, 60, "it follows the clock")
    clock.move(-7200)
    right = clock.now_ms()

    def since():
        return [each for each in fires(server, "often") if right + 2 * SECOND < each["scheduledMs"] < wrong - MINUTE]
    wait_until(lambda: sum(each["outcome"] == "ok" for each in since()) >= 3, 60, "it fires by the right clock")
    assert journal.repeated() == {} and all(len(ids) == 1 for ids in journal.ids("often").values())


def wait_clock(server, name, clock):
    """Until the server sees it, as the next time of a timer tells that fires each second."""
    wait_until(lambda: abs(coming(server, name, count=1)[0] - clock.now_ms()) < MINUTE, 60, "the server sees its clock")


# ---- daylight saving -------------------------------------------------------------------------------------------------------


def test_daylight_saving_in_berlin(clocked, journal):
    """02:30 does not exist on 29 March 2026: it is 03:00, which is 01:00 UTC. It comes twice on 25 October, at 00:30 and 01:30 UTC."""
    gap, half_past = ms_of("2026-03-29T01:00:00Z"), ms_of("2026-03-29T01:30:00Z")
    first, second = ms_of("2026-10-25T00:30:00Z"), ms_of("2026-10-25T01:30:00Z")
    march, march_clock = clocked("2026-03-29T00:35:00Z")
    october, october_clock = clocked("2026-10-25T00:05:00Z")
    fixed, cadence = {"cron": "0 30 2 * * * *", "tz": "Europe/Berlin"}, {"cron": "0 30 * * * * *", "tz": "Europe/Berlin"}
    add(march, "gap", **fixed)
    add(march, "skip", dst="skip", **fixed)
    add(march, "cadence", **cadence)
    add(october, "first", **fixed)
    add(october, "both", dst="both", **fixed)
    add(october, "every", **cadence)
    assert coming(march, "gap", count=2) == [gap, ms_of("2026-03-30T00:30:00Z")]
    assert coming(march, "skip", count=1) == [ms_of("2026-03-30T00:30:00Z")] and coming(march, "cadence", count=1) == [half_past]
    assert coming(october, "both", count=2) == coming(october, "every", count=2) == [first, second]

    march_clock.set((gap - 3 * SECOND - now_ms()) / 1000)
    october_clock.set((first - 3 * SECOND - now_ms()) / 1000)
    wait_fires(march, "gap", 1)
    check_once(march, journal, "gap", [gap])
    for name in ("first", "both", "every"):
        wait_fires(october, name, 1)
        check_once(october, journal, name, [first])
    for run in journal.runs():
        clock = march_clock if run.trigger == "gap" else october_clock
        assert clock.here_ms(run.scheduled_ms) <= run.at_ms <= clock.here_ms(run.scheduled_ms) + MINUTE

    march_clock.set((half_past - 3 * SECOND - now_ms()) / 1000)
    october_clock.set((second - 3 * SECOND - now_ms()) / 1000)
    wait_fires(march, "cadence", 1)
    check_once(march, journal, "cadence", [half_past])
    for name in ("both", "every"):
        wait_fires(october, name, 2)
        check_once(october, journal, name, [first, second])
    assert times(fires(march, "gap")) == [gap] and fires(march, "skip") == [] and times(fires(october, "first")) == [first]


# ---- zone data -------------------------------------------------------------------------------------------------------------


def test_zone_data_that_changes(serve, folder):
    """Berlin moves to where Tokyo is; SIGHUP tells the server."""
    data = folder / "zones"
    (data / "Europe").mkdir(parents=True)
    shutil.copy(f"{ZONES}/Europe/Berlin", data / "Europe/Berlin")
    server = serve(env={"TZDIR": str(data)})
    deploy(server)
    add(server, cron="0 30 2 * * * *", tz="Europe/Berlin")
    after = ms_of("2026-06-01T00:00:00Z")
    assert coming(server, "tick", after=after, count=1) == [ms_of("2026-06-01T00:30:00Z")]
    shutil.copy(f"{ZONES}/Asia/Tokyo", data / "Europe/new")
    (data / "Europe/new").replace(data / "Europe/Berlin")
    assert coming(server, "tick", after=after, count=1) == [ms_of("2026-06-01T00:30:00Z")], "before it was told"
    server.reload()
    wait_until(lambda: coming(server, "tick", after=after, count=1) == [ms_of("2026-06-01T17:30:00Z")], 20,
               lambda: f"02:30 is that of Tokyo: {coming(server, 'tick', after=after, count=1)}")


def test_zone_data_that_is_gone_for_a_while(serve, folder):
    """The times before stay, and those of a server that begins without it come with the next reload."""
    data = folder / "zones"
    berlin = data / "Europe/Berlin"
    berlin.parent.mkdir(parents=True)
    shutil.copy(f"{ZONES}/Europe/Berlin", berlin)
    server = serve(env={"TZDIR": str(data)})
    deploy(server)
    add(server, cron="0 30 2 * * * *", tz="Europe/Berlin")
    after = ms_of("2026-06-01T00:00:00Z")

    def reload_and_wait(text):
        before = server.log_text().count(text)
        server.reload()
        wait_until(lambda: server.log_text().count(text) > before, 20, text)
    berlin.unlink()
    reload_and_wait("a stored timer cannot be read")
    assert coming(server, "tick", after=after, count=1) == [ms_of("2026-06-01T00:30:00Z")]
    assert server.stop() == 0
    server.start()
    assert call(server, "GET", "/v1/triggers/tick/lag")["timer"]["error"].startswith("tz: there is no time zone Europe/Berlin")
    shutil.copy(f"{ZONES}/Europe/Berlin", berlin)
    reload_and_wait("zone data read anew")
    assert coming(server, "tick", after=after, count=1) == [ms_of("2026-06-01T00:30:00Z")]
    assert call(server, "GET", "/v1/triggers/tick/lag")["timer"]["error"] is None
