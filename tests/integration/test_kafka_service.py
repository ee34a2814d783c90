# SPDX-License-Identifier: Apache-2.0
"""The Kafka that other tests rely on: it takes records, keeps them over its end, and shows groups as they are."""
import os

import confluent_kafka
import pytest

from waiting import wait_until


def values(records):
    return [record.value for record in records]


def test_records_come_back_as_written(kafka, topic):
    name = topic(partitions=2)
    written = [
        (b"k", b"v", [("a", b"1"), ("a", b"2"), ("none", None)], 0, 1234567890123), (None, b"", None, 1), (b"k", None, None, 1)]
    assert kafka.produce(name, written) == [(0, 0), (1, 0), (1, 1)]
    first, empty, tombstone = kafka.consume(name)
    assert (first.key, first.value, first.timestamp_ms) == (b"k", b"v", 1234567890123)
    assert first.headers == [("a", b"1"), ("a", b"2"), ("none", None)]
    assert (empty.key, empty.value, tombstone.key, tombstone.value) == (None, b"", b"k", None)
    assert kafka.end_offsets(name) == {0: 1, 1: 2}


def test_a_record_of_ten_megabytes_passes(kafka, topic):
    name = topic()
    large = os.urandom(1 << 20) * 10
    kafka.produce(name, [(b"k", large)])
    assert values(kafka.consume(name)) == [large]


def test_topics_are_made_on_request_only(kafka):
    name = kafka.unique("absent")
    with pytest.raises(AssertionError, match="not acknowledged"):
        kafka.produce(name, [(b"k", b"v")], message_timeout_ms=2000)
    assert name not in kafka._admin().list_topics(timeout=20).topics


def test_deleted_topics_and_added_partitions(kafka, topic):
    name = topic(partitions=1)
    kafka.add_partitions(name, 3)
    assert kafka.end_offsets(name) == {0: 0, 1: 0, 2: 0}
    kafka.delete_topic(name)
    assert kafka.end_offsets(name) == {}


def test_transactions(kafka, topic):
    name = topic()
    kafka.produce(name, [(None, b"aborted")], abort=True)
    kafka.produce(name, [(None, b"committed")], transactional=True)
    opened = kafka.begin(name, [(None, b"open")])
    kafka.produce(name, [(None, b"behind")])
    assert values(kafka.consume(name)) == [b"committed"]
    assert values(kafka.consume(name, "read_uncommitted")) == [b"aborted", b"committed", b"open", b"behind"]
    opened.commit()
    wait_until(lambda: values(kafka.consume(name)) == [b"committed", b"open", b"behind"])


def test_records_go_by_deletion_and_by_retention(kafka, topic):
    name = topic()
    kafka.produce(name, [(None, b"%d" % number) for number in range(5)])
    kafka.delete_records(name, {0: 3})
    assert kafka.begin_offsets(name) == {0: 3} and values(kafka.consume(name)) == [b"3", b"4"]
    short = topic(retention_ms=1, segment_bytes=1 << 20)
    kafka.produce(short, [(None, b"old", None, 0, 1000)])
    wait_until(lambda: kafka.begin_offsets(short) == {0: 1}, 90)


def test_compaction_leaves_holes(kafka, topic):
    name = topic(cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.01)

    def compacted():
        kafka.produce(name, [(b"same", b"x")])  # a new record closes the segment before
        return len(kafka.consume(name)) < kafka.end_offsets(name)[0] - 1

    wait_until(compacted, 90)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_restart_keeps_data_and_address(kafka, topic, end):
    name, group, address = topic(), kafka.unique("group"), kafka.url
    kafka.produce(name, [(None, b"1"), (None, b"2")])
    kafka.commit(group, name, {0: (1, "note")})
    getattr(kafka, end)()
    assert kafka.start() == address
    assert values(kafka.consume(name)) == [b"1", b"2"]
    assert kafka.committed(group) == {name: {0: (1, "note")}}
    assert kafka.produce(name, [(None, b"3")]) == [(0, 2)]


def test_pause_and_resume(kafka, topic):
    name = topic()
    kafka.pause()
    with pytest.raises(AssertionError, match="not acknowledged"):
        kafka.produce(name, [(None, b"unheard")], message_timeout_ms=500, enable_idempotence=False)
    kafka.resume()
    kafka.produce(name, [(None, b"heard")])
    assert b"heard" in values(kafka.consume(name))


def test_groups(kafka, topic):
    name, group = topic(partitions=4), kafka.unique("group")
    assert kafka.group(group).state == "Dead" and kafka.committed(group) == {}
    kafka.commit(group, name, {2: (7, '{"a":"é"}'), 3: (8, None)})
    assert kafka.committed(group) == {name: {2: (7, '{"a":"é"}'), 3: (8, "")}}
    consumers = [confluent_kafka.Consumer({"bootstrap.servers": kafka.url, "group.id": group, "client.id": f"client{number}"})
                 for number in range(2)]
    try:
        for consumer in consumers:
            consumer.subscribe([name])
        # A consumer only takes part while it is asked for records.
        found = wait_until(lambda: [consumer.poll(0) for consumer in consumers] and both_have_partitions(kafka.group(group)), 30)
        assert sorted(member.client_id for member in found.members) == ["client0", "client1"]
        assert sorted(number for member in found.members for number in member.partitions[name]) == [0, 1, 2, 3]
    finally:
        for consumer in consumers:
            consumer.close()
    wait_until(lambda: kafka.group(group).state == "Empty")


def both_have_partitions(group):
    ready = group.state == "Stable" and len(group.members) == 2 and all(member.partitions for member in group.members)
    return group if ready else None
