# SPDX-License-Identifier: Apache-2.0
"""A Kafka topic consumed in place, with nothing going wrong but handlers and records: order, batches, odd records."""
import base64
import json

import pytest

from pipeline import (
    ALONE, FUNCTION, REPORTS, Journal, Line, by_key, check_once, check_order, deploy, record, wait_letters)
from waiting import stays, wait_until

PATIENT = [50, 50, 50, 2000]  # with 100 retries it is not over while a test does something
TELLS_RECORDS = """
    import base64
    import json
    from collect import tell
    def main_handler(event, context):
        for records in event["records"].values():
            for record in records:
                tell("got", base64.b64encode(json.dumps(record).encode()).decode())
"""


@pytest.fixture
def server(serve):
    return serve(ALONE)


@pytest.fixture
def journal(collector):
    return Journal(collector)


@pytest.fixture
def line(kafka, topic, server):
    """line(partitions=1, **config of the topic)"""
    return lambda partitions=1, **config: Line(kafka, server, topic(partitions, **config))


def keyed(count, keys, **body):
    return [record(b"key-%d" % (n % keys), n=n, **body) for n in range(count)]


def keys_of(records):
    return [each[0] for each in records]


# ---- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_each_record_is_done_once_and_in_the_order_of_its_key(server, line, journal):
    deploy(server)
    stream = line(4).add(batch=20)
    records = keyed(2000, 50)
    places = stream.produce(records)
    journal.wait_ok(places)
    stream.wait_committed()
    check_once(journal, places)
    check_order(journal, by_key(keys_of(records), places))
    assert server.letters() == [] and server.metric("weir_events_ok_total", FUNCTION) == 2000


@pytest.mark.short
def test_a_key_that_fails_parks_and_the_others_go_on(server, line, journal, folder):
    mended = folder / "mended"
    deploy(server, retries=100, backoffMs=PATIENT)
    stream = line(1)
    records = [record(b"a", n=0), record(b"a", n=1, fails_until=str(mended)), record(b"a", n=2)] + [
        record(b"bcdefg"[n % 6:n % 6 + 1], n=n) for n in range(3, 200)]
    places = stream.produce(records)
    stream.add(batch=10)
    failing, behind = places[1], places[2]
    journal.wait_ok([place for place in places if place not in (failing, behind)])
    wait_until(lambda: len(journal.attempts_alone(failing)) >= 2, 30, "it is tried again")
    assert journal.missing(places) == [failing, behind]
    wait_until(lambda: stream.lag()["binding"]["parkedKeys"] == 1, 60, lambda: f"lag tells of the key: {stream.lag()}")
    assert stream.committed().get(0, 0) <= failing[1], "committed beyond a record that is not finished"
    mended.touch()
    journal.wait_ok(places)
    stream.wait_committed()
    check_once(journal, places)
    check_order(journal, by_key(keys_of(records), places))
    assert server.letters() == []


def test_a_dead_letter_lets_its_key_go_on(server, line, journal):
    deploy(server, retries=2)
    stream = line(2)
    records = [record(b"a", n=0), record(b"a", n=1, poison=True), record(b"a", n=2), record(b"a", n=3, poison=True), record(b"a", n=4)]
    places = stream.produce(records)
    stream.add(batch=10)
    good, bad = places[0::2], places[1::2]
    journal.wait_ok(good)
    letters = wait_letters(server, bad)
    stream.wait_committed()
    check_once(journal, good)
    check_order(journal, by_key(keys_of(records), places))
    ok = journal.ok
    for at, place in enumerate(bad):
        assert journal.attempts_alone(place)[-3:] == [1, 2, 3]
        last = max(call.ns for call in journal.bad if call.places == [place])
        assert last < ok[good[at + 1]][0][0], "the record behind it ran before it was through"
        assert letters[place]["attempts"] == 3 and letters[place]["orderingKey"] == "a"
        whole = server.letter(letters[place]["id"])
        assert [each["attempt"] for each in whole["history"]] == [1, 2, 3]
        assert all(f"poison at {place[0]}:{place[1]}" in each["errorMessage"] for each in whole["history"]), "another record's traceback"


def test_order_partition_holds_the_partition_and_no_other(server, line, journal, folder):
    mended = folder / "mended"
    deploy(server, retries=100, backoffMs=PATIENT, maxInstances=4)
    stream = line(2)
    records = [record(b"k%d" % n, partition=n % 2, n=n, **({"fails_until": str(mended)} if n == 10 else {})) for n in range(100)]
    places = stream.produce(records)
    stream.add(order="partition", batch=1)
    journal.wait_ok(places[1::2])
    wait_until(lambda: len(journal.attempts_alone(places[10])) >= 3, 30, "it is tried again")
    assert journal.missing(places) == places[10::2], "the partition went on behind a record that is being retried"
    mended.touch()
    journal.wait_ok(places)
    stream.wait_committed()
    check_once(journal, places)
    check_order(journal, {0: places[0::2], 1: places[1::2]})


@pytest.mark.parametrize("order, at_a_time", [("partition", 1), ("key", 3), ("none", 4)])
def test_how_much_runs_at_a_time(server, line, journal, folder, order, at_a_time):
    """One partition, 3 keys, 4 instances."""
    gate = folder / "gate"
    deploy(server, maxInstances=4, env={"CALLS": "1"})
    stream = line(1)
    places = stream.produce([record(b"k%d" % (n % 3), n=n, hold=str(gate)) for n in range(30)])
    stream.add(order=order, batch=1)
    wait_until(lambda: len(journal.calls) >= at_a_time, 30, lambda: f"{at_a_time} run at a time: {journal.calls}")
    stays(lambda: len(journal.calls) == at_a_time, 0.5, lambda: f"only {at_a_time} run at a time: {journal.calls}")
    gate.touch()
    journal.wait_ok(places)
    stream.wait_committed()
    check_once(journal, places)


def test_records_without_a_key_have_no_order(server, line, journal, folder):
    gate = folder / "gate"
    deploy(server, maxInstances=4, env={"CALLS": "1"})
    stream = line(1)
    places = stream.produce([record(None, n=n, hold=str(gate)) for n in range(8)])
    stream.add(batch=1)
    wait_until(lambda: len(journal.calls) == 4, 30, "they run beside each other")
    gate.touch()
    journal.wait_ok(places)


# ---- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["key", "none"])
def test_a_failing_batch_is_split_until_the_bad_stand_alone(server, line, journal, order):
    deploy(server, env={"CALLS": "1"}, maxInstances=2)
    stream = line(1)
    poisoned = {17, 61}
    records = [record(b"k%d" % n, n=n, **({"poison": True} if n in poisoned else {})) for n in range(250)]
    places = stream.produce(records)
    stream.add(batch=100, window="500ms", order=order)
    bad = [places[n] for n in sorted(poisoned)]
    good = [place for n, place in enumerate(places) if n not in poisoned]
    journal.wait_ok(good)
    letters = wait_letters(server, bad)
    stream.wait_committed()
    check_once(journal, good)
    assert max(len(call.places) for call in journal.calls) == 100, "batches are filled, and not over"
    assert server.metric("weir_events_ok_total", FUNCTION) == len(good), "each good record is counted once"
    for place, letter in letters.items():
        assert letter["attempts"] == 4 and letter["errorType"] == "ValueError"
        assert journal.attempts_alone(place)[-4:] == [1, 2, 3, 4] or journal.attempts_alone(place)[-3:] == [2, 3, 4]
        history = server.letter(letter["id"])["history"]
        assert [each["attempt"] for each in history] == [1, 2, 3, 4]
        assert all(f"poison at {place[0]}:{place[1]}" in each["errorMessage"] and "in main_handler" in each["stack"] for each in history)
    assert len(server.letters()) == 2 and server.metric("weir_letters_dead_total", FUNCTION) == 2


@pytest.mark.short
def test_batch_item_failures_are_believed(server, line, journal):
    deploy(server, REPORTS, retries=2)
    stream = line(1)
    poisoned = {3, 40}
    records = [record(b"k%d" % n, n=n, **({"poison": True} if n in poisoned else {})) for n in range(100)]
    places = stream.produce(records)
    stream.add(batch=100, window="500ms")
    bad = [places[n] for n in sorted(poisoned)]
    good = [place for n, place in enumerate(places) if n not in poisoned]
    journal.wait_ok(good)
    letters = wait_letters(server, bad)
    stream.wait_committed()
    check_once(journal, good)
    called = [place for call in journal.calls for place in call.places]
    assert all(called.count(place) == 1 for place in good), "a good record was run again: the batch was split"
    assert all(called.count(place) == 3 and letters[place]["attempts"] == 3 for place in bad)
    assert server.metric("weir_events_ok_total", FUNCTION) == len(good)


def test_batch_item_failures_keep_the_order_of_the_key(server, line, journal):
    deploy(server, REPORTS, retries=1)
    stream = line(1)
    records = [record(b"a", n=0), record(b"a", n=1, poison=True), record(b"b", n=2), record(b"a", n=3), record(b"b", n=4)]
    places = stream.produce(records)
    stream.add(batch=100, window="500ms")
    journal.wait_ok([places[n] for n in (0, 2, 3, 4)])
    wait_letters(server, [places[1]])
    stream.wait_committed()
    last_failure = max(call.ns for call in journal.bad if call.places == [places[1]])
    assert journal.ok[places[3]][-1][0] > last_failure, "the record behind the failed one was not run again after it"
    assert all(len(journal.ok[places[n]]) == 1 for n in (0, 2, 4)), "records of other keys, or before it, ran again"


def test_a_batch_ends_at_its_bytes(server, line, journal):
    deploy(server, env={"CALLS": "1"})
    stream = line(1)
    places = stream.produce([record(b"k%d" % n, n=n, fill="x" * 10000) for n in range(40)])
    stream.add(batch=100, batch_bytes="64KiB", window="500ms")
    journal.wait_ok(places)
    sizes = [len(call.places) for call in journal.calls]
    assert max(sizes) <= 6 and max(sizes) >= 4, f"calls of at most 64 KiB with records of 10 kB: {sizes}"
    check_once(journal, places)


# ---- odd records -------------------------------------------------------------------------------------------------------


def got(collector):
    """Records as shape=lambda shows them, by (partition, offset)."""
    records = [json.loads(base64.b64decode(words[1])) for words in map(str.split, collector.lines) if words[0] == "got"]
    return {(each["partition"], each["offset"]): each for each in records}


@pytest.mark.short
def test_odd_records_are_delivered(server, line, collector):
    deploy(server, TELLS_RECORDS)
    stream = line(1).add(shape="lambda")
    headers = [("h%d" % n, b"%d" % n) for n in range(1000)]
    odd = [(None, b"no key"), (b"k", None), (b"k", b""), (b"\xff\x00", b"\x00\xfe\xff"), (b"k", b"{not json"), (b"many", b"v", headers),
           (b"", b"empty key"), (b"k", b"v", [("same", b"1"), ("same", b"2"), ("null", None), ("bytes", b"\xff")])]
    places = stream.produce(odd)
    wait_until(lambda: set(got(collector)) == set(places), 30, lambda: f"all are delivered: {got(collector).keys()}; {server.letters()}")
    stream.wait_committed()
    seen = got(collector)
    for (key, value, *rest), place in zip(odd, places):
        record_ = seen[place]
        assert base64.b64decode(record_.get("value") or "") == (value or b"")
        assert base64.b64decode(record_.get("key") or "") == (key or b"")
        if rest:
            names = [name for each in record_["headers"] for name in each]
            assert names == [name for name, _ in rest[0]], "headers in their order, and all of them"
    assert seen[places[1]].get("value") is None, "a tombstone is not an empty value"
    assert seen[places[2]]["value"] == ""
    assert server.letters() == []


def test_a_record_that_is_too_large_becomes_a_letter_and_the_partition_goes_on(server, line, journal):
    deploy(server)
    stream = line(1).add(batch=1)
    large = b'{"fill":"' + b"x" * (10 << 20) + b'"}'
    places = stream.produce([record(b"k", n=0), (b"k", large), record(b"k", n=2)])
    journal.wait_ok([places[0], places[2]])
    letter, = server.wait_letters(1)
    stream.wait_committed()
    assert letter["errorType"] == "TooLarge" and letter["source"]["kind"] == "kafka"
    whole = server.letter(letter["id"])
    kept = whole["payload"] if isinstance(whole["payload"], str) else json.dumps(whole["payload"])
    assert len(kept) >= len(large), "the letter has the whole record"
    check_once(journal, [places[0], places[2]])


def test_aborted_transactions_and_their_marks(server, line, journal):
    deploy(server)
    stream = line(1).add(batch=10)
    before = stream.produce([record(b"k", n=0)])
    aborted = stream.produce([record(b"k", n=1, poison=True)], abort=True)
    committed = stream.produce([record(b"k", n=2)], transactional=True)
    stream.produce([record(b"k", n=3, poison=True)], abort=True)
    journal.wait_ok(before + committed)
    opened = stream.kafka.begin(stream.topic, [record(b"k", n=4)])
    behind = stream.produce([record(b"k", n=5)])
    opened.commit()
    journal.wait_ok(opened.places + behind)
    check_once(journal, before + committed + opened.places + behind)
    check_order(journal, {"k": before + committed + opened.places + behind})
    assert aborted[0] not in journal.ok and server.letters() == []


def test_compaction_leaves_gaps(kafka, server, line, journal):
    deploy(server)
    stream = line(1, cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.01)

    def compacted():
        stream.produce([record(b"same", n=1)])  # a new record closes the segment before
        return len(kafka.consume(stream.topic)) < kafka.end_offsets(stream.topic)[0] - 3

    wait_until(compacted, 90, "the topic has gaps")
    stream.add()
    last = stream.produce([record(b"last", n=2)])
    journal.wait_ok(last)
    stream.wait_committed()
    assert journal.repeated() == {} and server.letters() == []
    assert journal.ok_count < kafka.end_offsets(stream.topic)[0], "there were gaps"


def test_a_deleted_topic_that_is_made_again(kafka, server, line, journal):
    deploy(server)
    stream = line(2).add(**{"kafka.topic.metadata.refresh.interval.ms": "500"})
    before = stream.produce(keyed(20, 5))
    journal.wait_ok(before)
    stream.wait_committed()
    kafka.delete_topic(stream.topic)
    kafka.create_topic(stream.topic, 2)
    again = stream.produce([record(b"again-%d" % n, n=n, again=True) for n in range(6)])

    def done_again():
        return all(len(journal.ok.get(place, [])) >= (2 if place in before else 1) for place in again)
    wait_until(done_again, 90, lambda: f"the new topic is consumed: {stream.lag()}")
    assert all(len(times) <= 2 for times in journal.ok.values())


@pytest.mark.parametrize("known", ["committed below the start", "committed beyond the end"])
def test_an_idle_group_whose_offsets_are_gone(kafka, server, line, journal, known):
    deploy(server)
    stream = line(1)
    places = stream.produce(keyed(100, 5))
    kafka.commit(stream.group, stream.topic, {0: (10 if known == "committed below the start" else 5000, "note of somebody else")})
    kafka.delete_records(stream.topic, {0: 60})
    stream.add()
    journal.wait_ok(places[60:])
    stream.wait_committed()
    check_once(journal, places[60:])
    assert server.letters() == []


def test_a_group_that_comes_back_goes_on_where_it_was(kafka, server, line, journal):
    deploy(server)
    stream = line(2)
    places = stream.produce(keyed(100, 10))
    kafka.commit(stream.group, stream.topic, {0: (7, "not ours"), 1: (3, "")})
    stream.add()
    wanted = [place for place in places if place[1] >= (7 if place[0] == 0 else 3)]
    journal.wait_ok(wanted)
    stream.wait_committed()
    check_once(journal, wanted)
