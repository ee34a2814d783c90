# SPDX-License-Identifier: Apache-2.0
"""A Kafka for tests, and what tests do with it from outside: make topics, write, read, look at groups.

    def test_it(kafka, topic):              # fixtures of conftest.py
        name = topic(partitions=3, retention_ms=1000)
        kafka.produce(name, [(b"key", b"value", {"h": b"1"}), (b"key", None)])
        kafka.committed("group")            # {topic: {partition: (offset, metadata)}}
        kafka.kill(); kafka.start()         # the same address, the same data

Every client here is made for the call and gone after it, so that none of them minds a restart.
"""
import collections
import itertools
import os
import uuid

import confluent_kafka
import confluent_kafka.admin

import kafka_wire
import services
from waiting import wait_until

SECONDS = 60
MAX_BYTES = 12 << 20

Record = collections.namedtuple("Record", "partition offset key value headers timestamp_ms")
Group = collections.namedtuple("Group", "state members")
Member = collections.namedtuple("Member", "id client_id host partitions")  # partitions: {topic: [numbers]}


class Transaction:
    """Records that are on the broker, but neither committed nor aborted yet."""

    def __init__(self, producer, places):
        self.producer, self.places = producer, places

    def commit(self):
        self.producer.commit_transaction(SECONDS)
        return self.places

    def abort(self):
        self.producer.abort_transaction(SECONDS)
        return self.places


class Kafka(services.Kafka):
    def __init__(self, dir=None):
        super().__init__(dir)
        self._numbers = itertools.count(1)

    def kill(self):
        """kill -9; start() brings it back with its data."""
        self.kill9()

    def unique(self, word):
        """A name that nobody else uses: for topics, groups, transactions."""
        return f"{word}-{os.getpid()}-{next(self._numbers)}"

    # ---- topics --------------------------------------------------------------------------------------------------------

    def _admin(self):
        return confluent_kafka.admin.AdminClient({"bootstrap.servers": self.url})

    def _ask(self, method, item, name):
        """One request of the AdminClient, which must live until the answer is here."""
        admin = self._admin()
        getattr(admin, method)([item], operation_timeout=SECONDS)[name].result(SECONDS)

    def _leaders(self, name):
        """Of each partition; a topic that is not there has none."""
        found = self._admin().list_topics(timeout=SECONDS).topics.get(name)
        return [] if found is None or found.error else [partition.leader for partition in found.partitions.values()]

    def create_topic(self, name, partitions=1, **config):
        """Options with underscores: retention_ms=1000. Returns the name once every partition can be written to."""
        texts = {key.replace("_", "."): str(value).lower() if isinstance(value, bool) else str(value) for key, value in config.items()}
        wanted = confluent_kafka.admin.NewTopic(name, num_partitions=partitions, replication_factor=1, config=texts)
        self._ask("create_topics", wanted, name)
        self._wait_partitions(name, partitions)
        return name

    def _wait_partitions(self, name, partitions):
        def led():
            leaders = self._leaders(name)
            return len(leaders) == partitions and min(leaders) >= 0
        wait_until(led, SECONDS, f"{name} has leaders")

    def delete_topic(self, name):
        self._ask("delete_topics", name, name)
        wait_until(lambda: not self._leaders(name), SECONDS, f"{name} is gone")

    def add_partitions(self, name, total):
        wanted = confluent_kafka.admin.NewPartitions(name, total)
        self._ask("create_partitions", wanted, name)
        self._wait_partitions(name, total)

    def delete_records(self, name, offsets):
        """{partition: first offset to keep}: what retention does, at once."""
        kafka_wire.delete_records(self.url, name, offsets)

    # ---- records -------------------------------------------------------------------------------------------------------

    def produce(self, topic, records, transactional=False, abort=False, **options):
        """Writes (key, value[, headers[, partition[, timestamp_ms]]]), where all but the key may be left out or None, and returns
        their (partition, offset) in the given order once all are acknowledged. abort=True: in a transaction that is aborted.
        Options are librdkafka's, with underscores."""
        if transactional or abort:
            opened = self.begin(topic, records, **options)
            return opened.abort() if abort else opened.commit()
        return send(self._producer(options), topic, records)

    def begin(self, topic, records, **options):
        """Writes them in a transaction that stays open until .commit() or .abort()."""
        producer = self._producer({"transactional_id": self.unique("transaction"), **options})
        producer.init_transactions(SECONDS)
        producer.begin_transaction()
        return Transaction(producer, send(producer, topic, records))

    def _producer(self, options):
        return confluent_kafka.Producer({
            "bootstrap.servers": self.url, "message.max.bytes": MAX_BYTES, "enable.idempotence": True,
            **{key.replace("_", "."): value for key, value in options.items()}})

    def _consumer(self, isolation):
        return confluent_kafka.Consumer({
            "bootstrap.servers": self.url, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error",
            "isolation.level": isolation, "enable.partition.eof": True, "fetch.wait.max.ms": 10, "fetch.message.max.bytes": MAX_BYTES})

    def _watermarks(self, topic):
        # A broker that was silent for a while is fenced, and its partitions have no leader until the controller hears of it again.
        wait_until(lambda: all(leader >= 0 for leader in self._leaders(topic)), SECONDS, f"{topic} has leaders")
        return wait_until(lambda: self._ask_watermarks(topic), SECONDS, f"the leaders of {topic} answer")[0]

    def _ask_watermarks(self, topic):
        """The answer in a list, for that of a topic without partitions is empty; None while a broker does not know yet that it leads again."""
        consumer = self._consumer("read_uncommitted")
        try:
            return [{number: consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, number), timeout=SECONDS)
                     for number in range(len(self._leaders(topic)))}]
        except confluent_kafka.KafkaException as wrong:
            if wrong.args[0].code() != confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return None
        finally:
            consumer.close()

    def begin_offsets(self, topic):
        return {number: low for number, (low, _high) in self._watermarks(topic).items()}

    def end_offsets(self, topic):
        """{partition: the offset the next record gets}. The marks that end transactions have offsets too."""
        return {number: high for number, (_low, high) in self._watermarks(topic).items()}

    def consume(self, topic, isolation="read_committed"):
        """All records that are in the topic now, by partition and offset."""
        consumer = self._consumer(isolation)
        try:
            starts = self.begin_offsets(topic)
            consumer.assign([confluent_kafka.TopicPartition(topic, number, low) for number, low in starts.items()])
            found, ended = [], set()

            def read_all():
                for message in consumer.consume(1000, timeout=0.02):
                    error = message.error()
                    if error is None:
                        found.append(record_of(message))
                    elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                        ended.add(message.partition())
                    elif not error.retriable():
                        raise confluent_kafka.KafkaException(error)
                return len(ended) == len(starts)

            wait_until(read_all, SECONDS, f"{topic} is read")
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            consumer.close()

    # ---- groups --------------------------------------------------------------------------------------------------------

    def committed(self, group):
        """{topic: {partition: (offset, metadata)}}"""
        return self._of_coordinator(kafka_wire.committed, group)

    def commit(self, group, topic, offsets):
        """{partition: (offset, metadata)}, for a group without members."""
        self._of_coordinator(kafka_wire.commit, group, topic, offsets)

    def group(self, group):
        """Group(state, members); the state is Stable, PreparingRebalance, CompletingRebalance, Empty, or Dead when unknown."""
        state, members = self._of_coordinator(kafka_wire.describe_group, group)
        return Group(state, [Member(*member) for member in members])

    def wait_stable(self, group, members, seconds=SECONDS):
        """Returns the group once it has so many members and each knows its partitions."""
        def stable():
            found = self.group(group)
            return found if found.state == "Stable" and len(found.members) == members else None
        return wait_until(stable, seconds, lambda: f"{group} is stable with {members}; it is {self.group(group)}")

    def _of_coordinator(self, request, *arguments):
        """After a start the coordinator loads its state first."""
        def answer():
            try:
                return (request(self.url, *arguments),)
            except kafka_wire.WireError as error:
                if error.passing:
                    return None
                raise
        return wait_until(answer, SECONDS, "the coordinator answers")[0]


def send(producer, topic, records):
    places, errors = [], []

    def on_delivery(index):
        def done(error, message):
            if error is None:
                places[index] = (message.partition(), message.offset())
            else:
                errors.append(error)
        return done

    for index, record in enumerate(records):
        places.append(None)
        key, value, headers, partition, timestamp_ms = (*record, None, None, None, None)[:5]
        place = {"partition": partition} if partition is not None else {}
        if timestamp_ms is not None:
            place["timestamp"] = timestamp_ms
        while True:
            try:
                producer.produce(topic, value, key, headers=headers, on_delivery=on_delivery(index), **place)
                break
            except BufferError:  # its queue is full
                producer.poll(1)
        producer.poll(0)
    left = producer.flush(SECONDS)
    if errors or left:
        raise AssertionError(f"{topic}: {left} records not acknowledged, errors {[str(error) for error in errors[:5]]}")
    return places


def record_of(message):
    return Record(message.partition(), message.offset(), message.key(), message.value(), message.headers() or [], message.timestamp()[1])
