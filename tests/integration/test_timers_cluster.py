# SPDX-License-Identifier: Apache-2.0
"""Two servers on one PostgreSQL: each scheduled time has one event, whatever happens to the clocks, the servers and the database.

They take real time, so they break several things in one run. What a kill makes run twice is printed."""
import collections
import threading

import psycopg2
import pytest

from timers import (ALONE, FUNCTION, SECOND, SLOW_MS, Clock, Journal, act, add, call, deploy, fires, kill9, ms_of, now_ms, promised,
                    second_from_now, text_of, times, wait_fires)
from waiting import wait_until

FOLLOW_MS = 5000  # after which another node fires, see docs/timers.md
LOST_MS = 20_000  # after which PostgreSQL ends the session of a writer that stalls
Row = collections.namedtuple("Row", "trigger scheduled_ms id outcome fired_ms")


@pytest.fixture
def clocks():
    """clocks(ahead_s) makes one."""
    made = []

    def make(ahead_s=0):
        made.append(Clock(ahead_s))
        return made[-1]
    yield make
    for clock in made:
        clock.close()


@pytest.fixture
def pair(serve, collector):
    """pair(options, clocks) starts A and B, which know the function; A with more environment."""
    def make(options, clocks=(None, None), env=None):
        nodes = [serve({**ALONE, **options}, env={**(clock.env if clock else {}), **more}) for clock, more in zip(clocks, (env or {}, {}))]
        deploy(nodes[0], maxInstances=2)
        wait_until(lambda: nodes[1].function_status(FUNCTION), 20, "B knows the function")
        for node, clock in zip(nodes, clocks):
            shown_ms, written_ms = ms_of(node.log_text().splitlines()[-1].split()[0]), node.log_path.stat().st_mtime * 1000
            assert clock is None or abs(shown_ms - written_ms - clock.ahead_s * SECOND) < 10 * SECOND, "the server does not see its clock"
        return nodes
    return make


def rows_of(url):
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT trigger, scheduled_ms, encode(event_id, 'hex'), outcome, fired_ms FROM fires")
        return [Row(*each) for each in cursor.fetchall()]


def leads(node):
    """Does it, as its log says?"""
    return node.log_text().rpartition("this node ")[2].startswith("leads")


def add_many(server, count, start, seconds, **settings):
    """The (name, time) that are to happen."""
    names, made = [f"often{n}" for n in range(count)], []
    threads = [threading.Thread(target=lambda some=names[n::4]: [
        made.append(add(server, name, every="1s", start=start, end=start + seconds * SECOND, **settings)) for name in some]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == count
    return {(trigger["name"], ms) for trigger in made for ms in promised(trigger, range(start, start + seconds * SECOND, SECOND))}


def wait_here(ms):
    wait_until(lambda: now_ms() >= ms, 120, f"it is {text_of(ms)}")


def plain(id):
    return id.replace("-", "")


def decided(url):
    return {(row.trigger, row.scheduled_ms) for row in rows_of(url)}


def wait_decided(url, expected, what):
    """By whoever is left: while nobody takes over, it does not come."""
    wait_until(lambda: decided(url) >= expected, 120, lambda: f"{what}; missing {sorted(expected - decided(url))[:5]}")


def check_all(url, journal, expected, seconds=120):
    """Each has one row and one event, that is the row's. Returns {id: runs} of those that ran twice, and the most that one was late."""
    def ended():
        return {(row.trigger, row.scheduled_ms) for row in rows_of(url) if row.outcome == "ok"}
    wait_until(lambda: set(journal.ids()) >= expected and ended() >= expected, seconds,
               lambda: f"all {len(expected)} ran; missing {sorted(expected - set(journal.ids()))[:5]}, not ended {sorted(expected - ended())[:5]}")
    rows = rows_of(url)
    assert sorted((row.trigger, row.scheduled_ms) for row in rows) == sorted(expected)
    assert {row.outcome for row in rows} == {"ok"}
    assert all(row.fired_ms >= row.scheduled_ms for row in rows), "one was decided before its time"
    ids = journal.ids()
    assert set(ids) == expected and [each for each in ids.items() if len(each[1]) > 1] == []
    assert {(row.trigger, row.scheduled_ms): {row.id} for row in rows} == {key: set(map(plain, found)) for key, found in ids.items()}
    assert all(run.at_ms >= run.scheduled_ms for run in journal.runs()), "one ran before its time"
    return journal.repeated(), max(row.fired_ms - row.scheduled_ms for row in rows)


def check_twice(repeated, killed, killed_ms):
    """Only what the killed node had in hand may have run twice."""
    for id, runs in repeated.items():
        assert killed in {run.node for run in runs} and runs[0].scheduled_ms <= killed_ms + SECOND, (id, runs)


def nodes_of(journal):
    return collections.Counter(run.node for run in journal.runs())


def test_wrong_clocks_and_a_kill(pair, clocks, database, collector):
    """200 timers a second for a minute. A's clock is 30 s ahead and B's 30 s behind; A is killed while it runs events; then A's clock
    is an hour ahead for a while, and B's an hour behind."""
    journal = Journal(collector)
    ahead, behind = clocks(30), clocks(-30)
    a, b = pair({"store": database}, (ahead, behind))
    start = second_from_now(10)
    expected = add_many(a, 200, start, 60)
    middle = start + 25 * SECOND
    wait_here(middle - 50)
    wait_until(lambda: any(run.scheduled_ms == middle for run in journal.begun()), 60, "the fires of the middle run")
    kill9(a)
    killed_ms = now_ms()
    wait_here(killed_ms + FOLLOW_MS)
    wait_decided(database, {each for each in expected if each[1] <= killed_ms + SECOND}, "B takes over")
    assert not [run for run in journal.runs() if run.node == "server0" and run.at_ms > killed_ms], "A is gone"
    a.start()
    for n, (clock, ahead_s) in enumerate(((ahead, 3630), (behind, -3630), (ahead, 30), (behind, -30))):
        wait_here(start + (35 + 5 * n) * SECOND)
        clock.set(ahead_s)
    wait_here(start + 60 * SECOND)
    repeated, most = check_all(database, journal, expected, 240)
    check_twice(repeated, "server0", killed_ms)
    ran = nodes_of(journal)
    print(f"\n{len(expected)} fires, the latest {most} ms late, {len(repeated)} events ran twice after the kill; {dict(ran)}")
    assert ran["server1"] > 0
    assert most <= FOLLOW_MS + SLOW_MS


def test_the_leader_stalls_over_rabbitmq(pair, real_backend, collector):
    url = real_backend.store_url
    journal = Journal(collector)
    a, b = pair(real_backend.options)
    wait_until(lambda: leads(a) != leads(b), 20, "one of them leads")
    leader, other = (a, b) if leads(a) else (b, a)
    start = second_from_now(4)
    expected = add_many(other, 50, start, 28)
    wait_here(start + 3 * SECOND)
    leader.pause()
    stalled_ms = now_ms()
    wait_here(stalled_ms + 20 * SECOND)
    wait_decided(url, {each for each in expected if each[1] <= stalled_ms + 12 * SECOND}, "the other node takes over")
    leader.resume()
    resumed_ms = now_ms()
    wait_here(start + 28 * SECOND)
    repeated, most = check_all(url, journal, expected)
    print(f"\n{len(expected)} fires, the latest {most} ms late; {len(repeated)} ran twice; {dict(nodes_of(journal))}")
    assert most <= FOLLOW_MS + SLOW_MS
    check_twice(repeated, leader.dir.name, resumed_ms)


def test_the_leader_stalls_in_a_transaction(pair, database, collector):
    """It holds the cursors' locks then, until PostgreSQL ends its session."""
    journal = Journal(collector)
    a, b = pair({"store": database}, env={"WEIR_STALL_AT": "fires.written:3"})
    wait_until(lambda: leads(a), 20, "A leads")
    start = second_from_now(4)
    expected = add_many(b, 50, start, 20)
    wait_until(lambda: a.is_stopped, 60, "A stalls")
    stalled_ms = now_ms()
    wait_decided(database, expected, "B takes over")
    a.resume()
    _, most = check_all(database, journal, expected)
    print(f"\n{len(expected)} fires, the latest {most} ms late, stalled {stalled_ms - start} ms after the first")
    assert most < LOST_MS, "not before the session of any writer that stalls is ended"


def test_postgres_away(pair, database, postgres, collector):
    journal = Journal(collector)
    a, b = pair({"store": database})
    start = second_from_now(4)
    expected = add_many(a, 50, start, 16)
    wait_here(start + 3 * SECOND)
    postgres.stop()
    stopped_ms = now_ms()
    try:
        wait_here(stopped_ms + 10 * SECOND)
    finally:
        postgres.start()
    back_ms = now_ms()
    wait_here(start + 16 * SECOND)
    repeated, most = check_all(database, journal, expected)
    print(f"\n{len(expected)} fires, the latest {most} ms late, away {back_ms - stopped_ms} ms; {len(repeated)} ran twice")
    assert repeated == {} or max(runs[0].scheduled_ms for runs in repeated.values()) <= back_ms


def change_store(url, *statements):
    """What another node, or a backup, did to it."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_a_store_that_was_restored(serve, database, collector):
    """It knows less than the node: no time happens twice for that, and the timer goes on."""
    journal = Journal(collector)
    server = serve({**ALONE, "store": database})
    deploy(server)
    add(server, "often", every="1s")
    wait_fires(server, "often", 3)
    change_store(database, "UPDATE fire_cursors SET cursor_ms = cursor_ms - 2000")
    wait_fires(server, "often", 6)
    act(server, "often", "pause")
    found = times(fires(server, "often"))
    assert found == list(range(found[0], found[0] + len(found) * SECOND, SECOND))
    assert all(len(ids) == 1 for ids in journal.ids().values()) and journal.repeated() == {}


def test_another_kind_takes_the_name(serve, database, collector):
    """Between two looks at the store a timer went, and a trigger of another kind came with its name."""
    journal = Journal(collector)
    server = serve({**ALONE, "store": database})
    deploy(server)
    add(server, "often", every="1s")
    add(server, "witness", every="1s")
    wait_fires(server, "often", 2)
    change_store(database, "UPDATE revision SET number = number + 1",
                 "DELETE FROM triggers WHERE name = 'often'",
                 "INSERT INTO triggers (name, function, kind, settings, state, epoch, created_ms, changed_ms, revision) SELECT 'often', "
                 f"'{FUNCTION}', 'amqp', '{{\"url\":\"amqp://127.0.0.1:1/\",\"queue\":\"q\"}}', 'active', 0, 1, 1, number FROM revision")
    wait_until(lambda: call(server, "GET", "/v1/triggers/often")["kind"] == "amqp", 20, "the server saw it")
    seen_ms = now_ms()
    wait_until(lambda: times(fires(server, "witness"))[-1] > seen_ms + 3 * SECOND, 60, "time passes")
    assert not [row for row in rows_of(database) if row.trigger == "often" and row.scheduled_ms > seen_ms], "it fires still"
    assert not [run for run in journal.begun("often") if run.scheduled_ms > seen_ms]
    assert server.http("GET", "/v1/triggers/often/next")[0] == 400
