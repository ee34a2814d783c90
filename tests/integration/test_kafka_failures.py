# SPDX-License-Identifier: Apache-2.0
"""A Kafka topic consumed in place while nodes come, go and are killed, and the broker or the letter store is away: nothing is
lost, each key stays in order, each poison record is one letter, and only what was not committed before a kill runs again.
Duplicates are counted."""
import datetime
import itertools
import json
import time

import pytest

from load import wait_ready
from pipeline import (
    ALONE, FUNCTION, Committed, Feeder, Journal, Line, by_key, check_once, check_order, cpu_seconds, deploy, memory_bytes, partitions,
    place_of_letter, record, wait_letters)
from runtime_driver import gone
from waiting import stays, wait_until, wait_within

RECORDS, PARTITIONS, KEYS, POISON_EVERY = 200_000, 8, 5000, 100
AHEAD = RECORDS // 10
QUICK = {"kafka.heartbeat.interval.ms": "500"}  # members hear of each other soon; nobody's session ends, however slow the machine
SESSION = {**QUICK, "kafka.session.timeout.ms": "6000"}
LONGER = {**QUICK, "kafka.session.timeout.ms": "20000"}  # longer than the broker takes to restart, mostly
PATIENT = {**ALONE, "grace": "50s"}
RETRIES = 3
LOST, UNCOMMITTED = "partitions are lost", "the end came before the last commit"  # what a node says


@pytest.fixture
def journal(collector):
    return Journal(collector)


def numbered(count, keys=50, **body):
    return [record(b"key-%d" % (n % keys), n=n, **body) for n in range(count)]


def load_of(count, poison_every=POISON_EVERY, keys=KEYS, **body):
    """Keys and values; a poison record now and then, never the same keys."""
    def value(n):
        poison = {"poison": True} if n % poison_every == poison_every // 2 else {}
        return json.dumps({"n": n, **body, **poison}).encode()
    return [(b"key-%d" % (n * 7919 % keys), value(n)) for n in range(count)]


class Account:
    """What became of a load, at the end."""

    def __init__(self, journal, records, feeder):
        self.journal = journal
        self.places = feeder.places
        self.poison = {place for place, (_, value) in zip(self.places, records) if b'"poison"' in value}
        self.good = [place for place in self.places if place not in self.poison]
        self.sequences = by_key([key for key, _ in records], self.places)

    def check(self, server):
        assert self.journal.missing(self.good) == [], "records are lost"
        check_order(self.journal, self.sequences)
        assert not self.poison & set(self.journal.ok)
        letters = server.letters(function=FUNCTION)
        assert sorted(map(place_of_letter, letters)) == sorted(self.poison), "each poison record is exactly one letter"
        assert {letter["attempts"] for letter in letters} <= {1 + RETRIES}

    def wait(self, server, line, seconds):
        self.journal.wait_ok(self.good, seconds)
        line.wait_committed(seconds)
        wait_until(lambda: len(server.letters(function=FUNCTION)) >= len(self.poison), seconds, "all letters")


def wait_shared(kafka, line, nodes):
    """The group once each of so many nodes has partitions."""
    def shared():
        found = kafka.group(line.group)
        own = [member.partitions.get(line.topic, []) for member in found.members]
        return found if found.state == "Stable" and len(own) == nodes and all(own) and sum(map(len, own)) == PARTITIONS else None
    return wait_until(shared, 120, lambda: f"{nodes} nodes share {line.topic}: {kafka.group(line.group)}")


def reach(journal, count, seconds=600):
    wait_until(lambda: journal.ok_count >= count, seconds, lambda: f"{count} records are done; there are {journal.ok_count}")


# ---- the whole of it ---------------------------------------------------------------------------------------------------


class Event:
    """Why records may run again: between the two times they were taken from a node that had not committed them. `committed` is what the group
    had committed when it began."""

    def __init__(self, partitions, committed, begin_ns, end_ns):
        self.partitions, self.committed, self.begin_ns, self.end_ns = partitions, committed, begin_ns, end_ns

    def explains(self, place, before, after):
        """That it ran at these two times."""
        return place[0] in self.partitions and place not in self.committed and before[0] < self.end_ns and self.begin_ns < after[0]


def unexplained(again, events):
    """What ran again without a reason. An event, of which the first comes first, makes a record run again once."""
    def is_explained(place, times):
        left = iter(events)
        return all(any(event.explains(place, *pair) for event in left) for pair in itertools.pairwise(times))
    return {place: times for place, times in again.items() if not is_explained(place, times)}


def test_every_repeat_needs_an_event_of_its_own():
    class Nothing(Committed):
        def __init__(self, **of):
            self.of = {int(number[1:]): (offset, set()) for number, offset in of.items()}
    kill, loss = Event({0}, Nothing(p0=5), 10, 12), Event({0, 1}, Nothing(p0=7), 20, 30)
    assert not unexplained({(0, 5): [(9, 0), (13, 0)], (0, 8): [(9, 0), (13, 0), (31, 0)], (1, 0): [(19, 0), (29, 0)]}, [kill, loss])
    for place, times in [((0, 4), (9, 13)), ((1, 8), (9, 13)), ((0, 8), (13, 14)), ((0, 6), (9, 13, 31)), ((1, 8), (19, 31, 32))]:
        assert unexplained({place: [(ns, 0) for ns in times]}, [kill, loss]), f"{place} at {times}"


def kill_node(server, line):
    """kill -9 of one that has partitions; what of them was not committed runs again."""
    owned = {number for number, said in partitions(server, line.name).items() if said["assigned"]}
    running = server.children()
    begin_ns = time.monotonic_ns()
    server.kill9()
    committed = Committed(line.kafka, line.group, line.topic)
    wait_until(lambda: all(map(gone, running)), 60, "its handlers end")
    return Event(owned, committed, begin_ns, time.monotonic_ns())


def lost_at(server):
    """When it said that its partitions are lost, after what ran of them: nanoseconds of the journal's clock, rounded up to more than it is off."""
    shift = time.monotonic_ns() - time.time_ns() + 100_000_000
    said = [line.split()[0] for line in server.log_text().splitlines() if LOST in line]
    return [int(datetime.datetime.fromisoformat(when).timestamp() * 1e9) + shift for when in said]


class Outage:
    """The broker is killed, and started. On a slow machine that may take longer than a session. Then, and only when a node says so, its
    partitions are lost, and what was not committed runs again where they come back to another node."""

    def __init__(self, line):
        self.committed = Committed(line.kafka, line.group, line.topic)
        self.begin_ns = time.monotonic_ns()
        line.kafka.kill()
        line.kafka.start()

    def events(self, servers):
        found = []
        for server in servers:
            times = lost_at(server)
            assert len(times) <= 1 and all(self.begin_ns < ns for ns in times), "partitions are lost without a reason"
            found += [Event(set(range(PARTITIONS)), self.committed, self.begin_ns, ns) for ns in times]
        return sorted(found, key=lambda event: event.end_ns)


def test_nodes_come_and_go_one_is_killed_and_the_broker_too(serve, real_backend, kafka, topic, journal):
    first = serve(PATIENT, backend=real_backend)
    deploy(first, maxInstances=2, retries=RETRIES)
    line = Line(kafka, first, topic(PARTITIONS)).add(batch=100, breaker="off", **LONGER)
    records = load_of(RECORDS)
    begin = time.monotonic()
    with Feeder(kafka, line.topic, records, lambda: journal.ok_count, AHEAD) as feeder:
        reach(journal, RECORDS * 5 // 100)
        second = serve(PATIENT, backend=real_backend)
        wait_shared(kafka, line, 2)
        reach(journal, RECORDS * 20 // 100)
        assert second.stop() == 0
        wait_shared(kafka, line, 1)
        reach(journal, RECORDS * 35 // 100)
        second.start()
        wait_shared(kafka, line, 2)
        reach(journal, RECORDS * 50 // 100)
        wait_until(lambda: second.metric("weir_events_ok_total", FUNCTION) >= RECORDS // 50, 300, "it is under way")
        killed = kill_node(second, line)
        second.start()
        reach(journal, RECORDS * 70 // 100)
        outage = Outage(line)
        reach(journal, RECORDS * 85 // 100)
        assert first.stop() == 0
        assert UNCOMMITTED not in first.log_text()
        first.start()
    account = Account(journal, records, feeder)
    account.wait(first, line, 600)
    seconds = time.monotonic() - begin
    again = journal.repeated()
    losses = outage.events([first, second])
    print(f"\n{RECORDS} records in {seconds:.0f} s, {len(account.poison)} letters, {len(again)} duplicates after a kill -9 and {len(losses)} losses")
    account.check(first)
    wrong = unexplained(again, [killed, *losses])
    assert not wrong, f"nothing explains {len(wrong)} of {len(again)} duplicates, such as {list(wrong.items())[:3]}"


def test_a_rebalance_without_a_kill_runs_nothing_again(serve, real_backend, kafka, topic, journal):
    count = RECORDS // 5
    first = serve(PATIENT, backend=real_backend)
    deploy(first, maxInstances=2, retries=RETRIES)
    line = Line(kafka, first, topic(PARTITIONS)).add(batch=20, breaker="off", **QUICK)
    records = load_of(count, keys=500, ms=0.2)
    with Feeder(kafka, line.topic, records, lambda: journal.ok_count, 5000) as feeder:
        reach(journal, count // 10)
        second = serve(PATIENT, backend=real_backend)
        wait_shared(kafka, line, 2)
        reach(journal, count * 3 // 10)
        assert second.stop() == 0
        wait_shared(kafka, line, 1)
        reach(journal, count * 5 // 10)
        second.start()
        wait_shared(kafka, line, 2)
        reach(journal, count * 7 // 10)
        assert first.stop() == 0
        wait_shared(kafka, line, 1)
        reach(journal, count * 8 // 10)
        first.start()
    account = Account(journal, records, feeder)
    account.wait(first, line, 600)
    account.check(first)
    assert journal.repeated() == {}, "records ran again because of a rebalance"


def test_a_node_that_stops_while_the_group_rebalances(serve, real_backend, kafka, topic, journal):
    """It stops as soon as it is a member, with no partition yet."""
    count = RECORDS // 10
    first = serve(PATIENT, backend=real_backend)
    deploy(first, maxInstances=2, retries=RETRIES)
    line = Line(kafka, first, topic(PARTITIONS)).add(batch=20, breaker="off", **QUICK)
    records = load_of(count, keys=500, ms=0.2)
    with Feeder(kafka, line.topic, records, lambda: journal.ok_count, 5000) as feeder:
        reach(journal, count // 10)
        second = serve(PATIENT, backend=real_backend)
        for part in (2, 3, 4):
            wait_until(lambda: len(kafka.group(line.group).members) == 2, 30, "a second node joins")
            assert second.stop() == 0
            wait_shared(kafka, line, 1)
            reach(journal, count * part // 5)
            second.start()
    account = Account(journal, records, feeder)
    account.wait(first, line, 600)
    account.check(first)
    assert journal.repeated() == {}, "records ran again because of a rebalance"


def test_a_node_without_partitions_leaves_at_once(serve, real_backend, kafka, topic, journal):
    """It must not be waited for until its session ends, which takes 45 s."""
    first = serve(ALONE, backend=real_backend)
    deploy(first)
    line = Line(kafka, first, topic(1)).add()
    kafka.wait_stable(line.group, 1)
    second = serve(ALONE, backend=real_backend)
    kafka.wait_stable(line.group, 2)
    owners = [member.id for member in kafka.group(line.group).members if member.partitions.get(line.topic)]
    assert second.stop() == 0
    wait_within(lambda: len(kafka.group(line.group).members) == 1, 30, "it left at once")
    kafka.wait_stable(line.group, 1)
    assert len(owners) <= 1
    places = line.produce(numbered(20))
    journal.wait_ok(places)
    check_once(journal, places)


def test_a_partition_that_moves_waits_for_what_runs(serve, real_backend, kafka, topic, journal, folder):
    """A second node gets partitions only after the handlers that run for them have ended."""
    gate = folder / "gate"
    first = serve(ALONE, backend=real_backend)
    deploy(first, maxInstances=4)
    line = Line(kafka, first, topic(4)).add(batch=1, revoke="60s", **QUICK)
    held = line.produce([record(b"k%d" % n, partition=n, hold=str(gate)) for n in range(4)])
    behind = line.produce([record(b"k%d" % n, partition=n, n=n) for n in range(4)])
    wait_until(lambda: line.lag()["binding"]["inFlight"] >= 4, 30, lambda: f"all partitions are at work: {line.lag()}")
    second = serve(ALONE, backend=real_backend)
    wait_until(lambda: len(kafka.group(line.group).members) == 2, 30, "a second node joins")
    stays(lambda: journal.ok_count == 0, 2, "a record ran elsewhere while its handler was at it")
    gate.touch()
    journal.wait_ok(held + behind)
    wait_until(lambda: sorted(len(member.partitions.get(line.topic, [])) for member in kafka.group(line.group).members) == [2, 2], 60,
               lambda: f"each has two partitions: {kafka.group(line.group)}")
    more = line.produce([record(b"k%d" % n, partition=n, n=n) for n in range(4)])
    journal.wait_ok(more)
    line.wait_committed()
    check_once(journal, held + behind + more)
    check_order(journal, {n: [held[n], behind[n], more[n]] for n in range(4)})
    assert second.alive


# ---- one node ends -----------------------------------------------------------------------------------------------------


def hold_some(line, journal, gate, count=3000, every=500):
    """Some records run for ever while all the others are done; returns (held, done)."""
    # 3 ms each: an instance is handed the next one early only when handlers are faster.
    records = [record(b"key-%d" % n, n=n, ms=3, **({"hold": str(gate)} if n % every == every // 2 else {})) for n in range(count)]
    places = line.produce(records)
    held = places[every // 2::every]
    done = [place for place in places if place not in held]
    journal.wait_ok(done)
    return held, done


def wait_committed_all_but(kafka, line, held, done):
    def known():
        committed = Committed(kafka, line.group, line.topic)
        return all(place in committed for place in done) and not any(place in committed for place in held)
    wait_until(known, 30, lambda: f"the metadata says what is finished: {kafka.committed(line.group)}")


@pytest.mark.short
@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_what_finished_out_of_order_does_not_run_again(serve, kafka, topic, journal, folder, end):
    gate = folder / "gate"
    server = serve({**ALONE, "grace": "1s"})
    deploy(server, maxInstances=8, timeoutMs=120000)
    line = Line(kafka, server, topic(2)).add(batch=1, **SESSION)
    held, done = hold_some(line, journal, gate)
    if end == "kill9":
        wait_committed_all_but(kafka, line, held, done)
        server.kill9()
    else:
        assert server.stop() == 0
        wait_committed_all_but(kafka, line, held, done)
    gate.touch()
    server.start()
    journal.wait_ok(held)
    line.wait_committed()
    check_once(journal, held + done)
    assert server.letters() == []


@pytest.mark.short
def test_restarts_in_the_middle(serve, kafka, topic, journal):
    server = serve(PATIENT)
    deploy(server, maxInstances=4, retries=RETRIES)
    line = Line(kafka, server, topic(4)).add(batch=7, breaker="off", **QUICK)
    records = load_of(10000, keys=200)
    with Feeder(kafka, line.topic, records, lambda: journal.ok_count, 2000) as feeder:
        for part in (1, 2, 3):
            reach(journal, len(records) * part // 4)
            server.restart()
    account = Account(journal, records, feeder)
    account.wait(server, line, 600)
    account.check(server)
    assert journal.repeated() == {}, "records ran again because of a stop in order"


def test_kills_in_the_middle(serve, kafka, topic, journal):
    server = serve(ALONE)
    deploy(server, maxInstances=4, retries=RETRIES)
    line = Line(kafka, server, topic(4)).add(batch=7, breaker="off", commit="100ms", **SESSION)
    records = load_of(10000, keys=200)
    snapshots = []
    with Feeder(kafka, line.topic, records, lambda: journal.ok_count, 2000) as feeder:
        for part in (1, 2, 3):
            reach(journal, len(records) * part // 4)
            server.kill9()
            snapshots.append((time.monotonic_ns(), Committed(kafka, line.group, line.topic)))
            server.start()
    account = Account(journal, records, feeder)
    account.wait(server, line, 600)
    account.check(server)
    again = journal.repeated()
    print(f"\n{len(records)} records, {len(snapshots)} kills, {len(again)} duplicates")
    for killed_ns, committed in snapshots:
        wrong = [place for place, times in again.items() if place in committed and any(
            before[0] < killed_ns < after[0] for before, after in itertools.pairwise(times))]
        assert not wrong, f"{len(wrong)} records that were committed before the kill ran again: {wrong[:5]}"


def test_an_instance_that_dies_in_a_batch(serve, kafka, topic, journal):
    server = serve(ALONE)
    deploy(server, maxInstances=2, retries=2)
    line = Line(kafka, server, topic(1))
    places = line.produce([record(b"k%d" % n, n=n, **({"dies": True} if n == 30 else {})) for n in range(100)])
    line.add(batch=50, window="200ms")
    good = places[:30] + places[31:]
    journal.wait_ok(good)
    letters = wait_letters(server, [places[30]])
    line.wait_committed()
    check_once(journal, good)
    assert letters[places[30]]["attempts"] == 3 and letters[places[30]]["kind"] == "function"


# ---- the letter store is away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["", "and the node is killed"])
def test_a_letter_store_that_is_down_holds_the_partition(serve, real_backend, kafka, topic, journal, killed):
    server = serve(ALONE, backend=real_backend)
    deploy(server, retries=1)
    line = Line(kafka, server, topic(2)).add(batch=10, **SESSION)
    before = line.produce(numbered(100))
    journal.wait_ok(before)
    line.wait_committed()
    real_backend.db.kill9()
    records = numbered(100) + [record(b"poison", n=100, poison=True)] + numbered(100)
    places = line.produce(records)
    poison = places[100]
    good = places[:100] + places[101:]
    journal.wait_ok(good)
    wait_until(lambda: len(journal.attempts_alone(poison)) >= 2, 30, "it has failed for good")

    def is_held():
        return line.committed().get(poison[0], 0) <= poison[1]
    stays(is_held, 3, lambda: f"the offsets passed a record whose letter is nowhere: {line.committed()}, poison at {poison}")
    if killed:
        committed = Committed(kafka, line.group, line.topic)
        server.kill9()
        real_backend.db.start()
        server.start()
    else:
        real_backend.db.start()
    wait_ready(server)
    wait_letters(server, [poison])
    line.wait_committed()
    assert journal.missing(before + good) == []
    if killed:
        assert not [place for place in journal.repeated() if place in committed]
    else:
        check_once(journal, before + good)
    more = line.produce(numbered(50))
    journal.wait_ok(more)


def test_a_key_whose_letter_cannot_be_kept_waits_and_others_go_on(serve, real_backend, kafka, topic, journal):
    server = serve(ALONE, backend=real_backend)
    deploy(server, retries=0)
    line = Line(kafka, server, topic(1)).add(batch=1, **SESSION)
    line.produce(numbered(5))
    reach(journal, 5)
    real_backend.db.kill9()
    records = [record(b"a", n=0, poison=True), record(b"a", n=1)] + [record(b"b%d" % (n % 3), n=n) for n in range(60)]
    places = line.produce(records)
    journal.wait_ok(places[2:])
    stays(lambda: journal.missing([places[1]]), 1, "a record passed one of its key that is neither done nor a letter")
    real_backend.db.start()
    wait_ready(server)
    journal.wait_ok([places[1]])
    wait_letters(server, [places[0]])
    line.wait_committed()
    assert journal.repeated() == {}


# ---- the broker is away ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how, settings", [("killed", {}), ("silent", {}), ("killed", SESSION)], ids=["killed", "silent", "beyond the session"])
def test_the_broker_is_away(serve, kafka, topic, journal, how, settings):
    """With `settings` the group's session ends meanwhile: the partitions are lost, and come back."""
    server = serve(ALONE)
    deploy(server, retries=RETRIES)
    line = Line(kafka, server, topic(4)).add(batch=10, **settings)
    first = line.produce(numbered(400))
    journal.wait_ok(first if settings else first[:50])
    if settings:
        line.wait_committed()
    (kafka.kill if how == "killed" else kafka.pause)()
    try:
        log_at, cpu, begin = len(server.log_text()), cpu_seconds(server), time.monotonic()
        stays(lambda: server.alive, 8)
        took, spent = time.monotonic() - begin, cpu_seconds(server) - cpu
    finally:
        (kafka.start if how == "killed" else kafka.resume)()
    back = time.monotonic()
    second = line.produce(numbered(400))
    wait_until(lambda: not journal.missing(first + second), 60, lambda: f"consumption goes on: {line.lag()}")
    print(f"\nbroker {how}: {spent:.2f} s of CPU in {took:.0f} s, all done {time.monotonic() - back:.1f} s after its return")
    line.wait_committed()
    check_once(journal, first + second)
    assert spent < took / 2, f"{spent:.1f} s of CPU in {took:.1f} s: a hot loop"
    said = server.log_text()[log_at:].count("\n")
    assert said < 100, f"{said} lines in the log"


def test_what_was_not_committed_when_the_session_ended_does_not_run_again(serve, kafka, topic, journal, folder):
    """The broker is away for longer than the session, so that the partitions are lost, and nobody else has them meanwhile."""
    gate = folder / "gate"
    server = serve(ALONE)
    deploy(server, maxInstances=4)
    line = Line(kafka, server, topic(4)).add(batch=1, commit="60s", **SESSION)
    wait_until(lambda: len(line.committed()) == 4, 30, "the group has begun; its next commit is a minute away")
    places = line.produce(numbered(400))
    held = line.produce([record(b"key-%d" % n, n=n, hold=str(gate)) for n in range(2)])
    behind = line.produce(numbered(100))
    journal.wait_ok(places)
    wait_until(lambda: line.lag()["binding"]["parkedKeys"] >= 2, 30, lambda: f"some run still: {line.lag()}")
    assert set(line.committed().values()) == {0}
    kafka.kill()
    wait_until(lambda: "session timed out" in server.log_text(), 60, "the session ends")
    gate.touch()
    wait_until(lambda: LOST in server.log_text(), 60, "the partitions are let go of once nothing of them runs")
    kafka.start()
    more = line.produce(numbered(100))
    journal.wait_ok(places + held + behind + more, 120)
    server.stop()
    line.wait_committed()
    check_once(journal, places + held + behind + more)
    check_order(journal, by_key([b"key-%d" % (n % 50) for n in range(400)] + [b"key-0", b"key-1"]
                                + [b"key-%d" % (n % 50) for n in range(100)] * 2, places + held + behind + more))


def test_handlers_longer_than_the_poll_interval(serve, kafka, topic, journal, folder):
    gate = folder / "gate"
    server = serve(ALONE)
    deploy(server, maxInstances=2)
    line = Line(kafka, server, topic(2)).add(batch=1, **{**SESSION, "kafka.max.poll.interval.ms": "6000"})
    held = line.produce([record(b"k%d" % n, partition=n, hold=str(gate)) for n in range(2)])
    wait_until(lambda: line.lag()["binding"]["inFlight"] == 2, 30, "they run")
    member, = kafka.wait_stable(line.group, 1).members
    stays(lambda: [each.id for each in kafka.group(line.group).members] == [member.id], 8, "it left the group, or was put out of it")
    gate.touch()
    journal.wait_ok(held)
    line.wait_committed()
    check_once(journal, held)


def test_memory_stays_under_its_cap(serve, kafka, topic, journal, folder):
    gate = folder / "gate"
    server = serve(ALONE)
    deploy(server, maxInstances=2)
    line = Line(kafka, server, topic(2))
    places = line.produce([record(b"k%d" % n, n=n, fill="x" * 20000, **({"hold": str(gate)} if n < 20 else {})) for n in range(5000)])
    before = memory_bytes(server)
    line.add(max_bytes="4MiB", batch=5)
    wait_until(lambda: any(each["paused"] for each in line.lag()["source"]["partitions"]), 30, lambda: f"a partition rests: {line.lag()}")
    grown = []
    stays(lambda: grown.append(memory_bytes(server) - before) or max(grown) < 64 << 20, 2, lambda: f"{max(grown) >> 20} MiB more for 4 MiB")
    gate.touch()
    while journal.missing(places):
        grown.append(memory_bytes(server) - before)
        wait_until(lambda count=journal.ok_count: journal.ok_count > count or not journal.missing(places), 30, "it goes on")
    line.wait_committed()
    print(f"\n100 MB through 4 MiB: {max(grown) >> 20} MiB more at most")
    assert max(grown) < 64 << 20
    check_once(journal, places)
