# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server at each state of a delivery and of a letter, of an instance, of RabbitMQ and of PostgreSQL, under load:
afterwards every accepted event was handled or is a dead letter. The counts of duplicates are printed."""
import itertools
import os
import signal

import pytest

from load import (FUNCTION, Load, deploy, duplicates, event, let_leases_run_out, unfinished, wait_all_ended, wait_idle, wait_ready)
from waiting import wait_until

EVENTS = 20000
CREDIT = 500
OPTIONS = {"credit": CREDIT, "max-deliveries": 100}

# The moment of each kill: a fault point of the server (core/base/fault.h), and how often it is passed before.
POINTS = [
    ("ingest.published", 300),   # on the queue; the caller has not been told
    ("store.ran", 40),           # between the statements and the commit
    ("store.committed", 40),     # durable; nobody has been told
    ("delivery.waiting", 700),
    ("delivery.sent", 700),
    ("delivery.finished", 700),
    ("delivery.storing", 30),
    ("delivery.settled", 700),   # the acknowledgement is the next thing
    ("delivery.released", 20),
    ("letter.due", 30),          # durable; its event is not acknowledged
    ("letter.dead", 5),
    ("due.claimed", 3),
    ("due.published", 3),        # on the queue again, and a letter still
    ("due.marked", 3),
    ("replay.claimed", 1),
    ("replay.published", 1),
    ("replay.marked", 1),        # the operator has not been told
]


def drain_with_much_in_hand(server):
    wait_until(lambda: server.function_status(FUNCTION)["handedOut"] >= 100, 30, "many events wait on this node")
    server.process.send_signal(signal.SIGTERM)


def replay_the_dead(server):
    wait_until(lambda: server.letters(state="dead"), 30, "there are dead letters")
    server.replay(function=FUNCTION)


# What has to happen besides the load, for some of the points to be reached.
TRIGGERS = {"delivery.released": drain_with_much_in_hand, "replay": replay_the_dead}


def trigger_of(point):
    return TRIGGERS.get(point) or TRIGGERS.get(point.split(".")[0])


def kill_at(server, backend, point, times, numbers):
    """One life of the server, that ends at the point. Returns the ids it accepted."""
    if point.startswith("replay."):
        let_leases_run_out(server, backend)  # the last replay that was killed holds all dead letters
    server.env["WEIR_CRASH_AT"] = f"{point}:{times}"
    server.start()
    trigger = trigger_of(point)
    slow = {"ms": 3} if point == "delivery.released" else {}
    with Load(server, EVENTS // 10, make=lambda n: event(n, **slow), numbers=numbers) as load:
        if trigger:
            wait_until(lambda: len(load.accepted) >= 500 or load.done, 30, "a load is under way")
            try:
                trigger(server)
            except OSError:
                pass  # it died before it could answer
        wait_until(lambda: not server.alive, 60, f"the server reaches {point}")
    assert server.process.wait() == -signal.SIGKILL, f"{point}: it ended otherwise:\n{server.log_text()[-3000:]}"
    return load.accepted


def check_end(server, collector, accepted, name, kills, held=CREDIT):
    wait_all_ended(server, collector, accepted)
    wait_idle(server)
    assert unfinished(server, collector, accepted) == []
    again = duplicates(collector, accepted)
    dead = server.letters(state="dead")
    print(f"\n{name}: {len(accepted)} accepted, {kills} kills, {again} duplicates, {len(dead)} dead letters")
    assert again <= kills * held, "more events ran twice than were in hand at the kills"
    assert {letter["kind"] for letter in dead} <= {"function"}
    assert {letter["attempts"] for letter in dead} == {4}, "an attempt was charged that no handler failed, or one was not"
    return again


def test_kill_at_each_state(serve, backend, collector):
    server = serve(OPTIONS, backend=backend)
    deploy(server)
    server.stop()
    numbers = itertools.count()
    accepted = []
    for point, times in POINTS:
        got = kill_at(server, backend, point, times, numbers)
        accepted += got
        print(f"{point}: {len(got)} accepted")
    let_leases_run_out(server, backend)
    del server.env["WEIR_CRASH_AT"]
    server.start()
    with Load(server, max(0, EVENTS - len(accepted)), numbers=numbers) as load:
        pass
    accepted += load.accepted
    assert len(accepted) >= EVENTS and len(set(accepted)) == len(accepted)
    check_end(server, collector, accepted, f"kill at each state, {backend.kind}", len(POINTS))


@pytest.mark.short
def test_kill_when_seen(serve, backend, collector):
    """The same from outside, at moments that a client can see."""
    server = serve(OPTIONS, backend=backend)
    deploy(server)
    numbers, accepted = itertools.count(), []
    moments = {
        "accepting": lambda load: len(load.accepted) >= 200,
        "waiting": lambda load: server.function_status(FUNCTION).get("waiting", 0) >= 100,
        "running": lambda load: collector.lines,
        "due": lambda load: server.function_status(FUNCTION).get("due", 0) > 0,
        "dead": lambda load: server.function_status(FUNCTION).get("dead", 0) > 0,
    }
    for name, seen in moments.items():
        collected = len(collector.lines)
        with Load(server, 3000, make=lambda n: event(n, ms=1), numbers=numbers) as load:
            wait_until(lambda: seen(load) and len(collector.lines) > collected, 60, f"the load is {name}")
            server.kill9()
        accepted += load.accepted
        let_leases_run_out(server, backend)
        server.start()
    check_end(server, collector, accepted, f"kill when seen, {backend.kind}", len(moments))


@pytest.mark.short
def test_kill_an_instance_in_mid_event(serve, collector):
    server = serve({"sandbox": "none"})  # so that the handler's process id is the one to kill
    deploy(server, maxInstances=1)
    before = server.send_async(FUNCTION, [{"kind": "ok"}] * 300)
    held = server.send(FUNCTION, {"kind": "hold", "times": 1, "hold_ms": 60000}, headers={"Content-Type": "application/json"})
    behind = server.send_async(FUNCTION, [{"kind": "ok"}] * 300)
    words = wait_until(lambda: next((words for words in collector.about(held) if words[0] == "begin"), None), 30, "it runs")
    os.kill(int(words[3]), signal.SIGKILL)
    neighbours = before + behind
    collector.wait_for([held, *neighbours])
    wait_idle(server)
    assert [words[2] for words in collector.about(held) if words[0] == "begin"] == ["1", "2"], "charged once, and tried again"
    assert collector.repeated(neighbours) == {} and server.letters() == []
    assert {words[1] for words in map(str.split, collector.lines) if words[0] in set(neighbours)} == {"1"}, "a neighbour was charged"


def kill_in_mid_load(serve, backend, collector, service, name):
    server = serve({"credit": CREDIT}, backend=backend)
    deploy(server)
    backend.mq.wait_killable(backend.vhost, f"weir.fn.{FUNCTION}")
    with Load(server, EVENTS) as load:
        wait_until(lambda: len(load.accepted) >= EVENTS // 4 and len(collector.lines) >= EVENTS // 8, 120, "the load is in the middle")
        service.kill9()
        handled = len(collector.lines)
        service.start()
    assert len(load.accepted) >= EVENTS, "callers could not go on after the return"
    wait_ready(server)
    wait_all_ended(server, collector, load.accepted, 90)
    assert len(collector.lines) > handled
    check_end(server, collector, load.accepted, name, 1, held=EVENTS // 10)


def test_kill_rabbitmq_in_mid_load(serve, real_backend, collector):
    kill_in_mid_load(serve, real_backend, collector, real_backend.mq, "kill of RabbitMQ")


def test_kill_postgres_in_mid_load(serve, real_backend, collector):
    kill_in_mid_load(serve, real_backend, collector, real_backend.db, "kill of PostgreSQL")
