# SPDX-License-Identifier: Apache-2.0
"""What tests of triggers share: a handler that obeys its records and tells what it did, the account of it, triggers over HTTP.

    deploy(server)                                            # the function `job`
    name = add(server, "kafka", brokers=kafka.url, topic=topic, group=group)
    places = kafka.produce(topic, [record(b"key", n=1), record(b"key", n=2, poison=True)])
    journal = Journal(collector)
    wait_ended(server, journal, places)
    check_once(journal, places[:1]); check_order(journal, by_key(places, keys))

A record says in its body what is to happen to it: {"poison":true} always fails, {"fails_until":FILE} fails until there is that
file, {"fails_first":n} fails at the first n attempts, {"hold":FILE} runs until there is that file, {"ms":5} takes so long,
{"dies":true} ends its process. (Files need servers with sandbox=none.) A *place* is (partition, offset) of Kafka; for AMQP it is
the body's number `n`.
"""
import base64
import collections
import json
import os
import threading
import time

import confluent_kafka

from waiting import wait_until

FUNCTION = "job"
HANDLER = '''
import json
import os
import time
from collect import tell

CALLS = os.environ.get("CALLS")


def place(record):
    if "Ckafka" in record:
        return "%d:%d" % (record["Ckafka"]["partition"], record["Ckafka"]["offset"])
    return str(json.loads(record["CMQ"]["msgBody"])["n"])


def wish(record):
    try:
        found = json.loads((record.get("Ckafka") or record["CMQ"])["msgBody"])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def fails(want, attempt):
    until = want.get("fails_until")
    return want.get("poison") or want.get("fails_first", 0) >= attempt or (until and not os.path.exists(until))


def main_handler(event, context):
    attempt = context["attempt"]
    records = event["Records"]
    places = [place(each) for each in records]
    if CALLS:
        tell("call", time.monotonic_ns(), attempt, *places)
    for at, each in enumerate(records):
        want = wish(each)
        if "ms" in want:
            time.sleep(want["ms"] / 1000)
        while "hold" in want and not os.path.exists(want["hold"]):
            time.sleep(0.005)
        if want.get("dies"):
            os._exit(7)
        if fails(want, attempt):
            tell("bad", time.monotonic_ns(), attempt, *places)
            raise ValueError("poison at " + places[at])
    tell("ok", time.monotonic_ns(), attempt, *places)
    return {"count": len(records), "places": places}
'''
MENDED = HANDLER.replace('return want.get("poison") or', "return")
REPORTS = HANDLER.replace("def main_handler(event, context):", '''
def main_handler(event, context):
    attempt = context["attempt"]
    places = [place(each) for each in event["Records"]]
    tell("call", time.monotonic_ns(), attempt, *places)
    bad = [at for at, each in enumerate(event["Records"]) if fails(wish(each), attempt)]
    good = [where for at, where in enumerate(places) if at not in bad]
    if good:
        tell("ok", time.monotonic_ns(), attempt, *good)
    for at in bad:
        tell("bad", time.monotonic_ns(), attempt, places[at])
    return {"batchItemFailures": [{"itemIdentifier": event["Records"][at]["Ckafka"]["topic"] + "-" + places[at].replace(":", "-")}
                                  for at in bad]}


def unused(event, context):''')
QUICK = {"backoffMs": [10, 10, 10]}
ALONE = {"sandbox": "none"}  # for records that name files


def deploy(server, source=HANDLER, name=FUNCTION, **settings):
    return server.deploy(name, source, **{**QUICK, **settings})


def record(key, *, partition=None, headers=None, **body):
    """As kafka.produce takes it."""
    return (key, json.dumps(body).encode(), headers, partition)


# ---- triggers ----------------------------------------------------------------------------------------------------------


def try_add(server, kind, function=FUNCTION, **settings):
    """(status, body). Names with a dot are given as **{"kafka.x.y": …}."""
    body = {"function": function, "kind": kind, "settings": {name: str(value) for name, value in settings.items()}}
    status, _, answer = server.http("POST", "/v1/triggers", body)
    return status, answer


def add(server, kind, function=FUNCTION, **settings):
    """Its name."""
    status, answer = try_add(server, kind, function, **settings)
    assert status == 201, f"{status} {answer}"
    return answer["name"]


def act(server, name, what, **body):
    """pause, resume, seek; the trigger as it is then."""
    status, _, answer = server.http("POST", f"/v1/triggers/{name}/{what}", body or None)
    assert status == 200, f"{what} {name}: {status} {answer}"
    return answer


def remove(server, name):
    status, _, answer = server.http("DELETE", f"/v1/triggers/{name}")
    assert status in (200, 204), f"{status} {answer}"


def lag(server, name):
    status, _, answer = server.http("GET", f"/v1/triggers/{name}/lag")
    assert status == 200, f"lag of {name}: {status} {answer}"
    return answer


def partitions(server, name):
    """{number: what lag says of it}"""
    return {each["partition"]: each for each in lag(server, name)["source"]["partitions"]}


def wait_no_lag(server, name, seconds=60):
    def none():
        said = lag(server, name)["source"]
        return said and said["partitions"] and all(each["lag"] == 0 and each["inFlight"] == 0 for each in said["partitions"])
    wait_until(none, seconds, lambda: f"{name} has no lag: {lag(server, name)}")


def wait_committed(kafka, group, topic, seconds=60):
    """Until the group committed the end of each partition that has records. Not for topics with marks of transactions."""
    ends = {number: end for number, end in kafka.end_offsets(topic).items() if end}

    def all_of_it():
        found = kafka.committed(group).get(topic, {})
        return all(found.get(number, (-1,))[0] == end for number, end in ends.items())
    wait_until(all_of_it, seconds, lambda: f"{group} committed {ends}: {kafka.committed(group)}")


class Line:
    """A topic, a group of its own, and the trigger between the topic and `job` once it was added. All on one server of several."""

    def __init__(self, kafka, server, topic):
        self.kafka, self.server, self.topic = kafka, server, topic
        self.group = kafka.unique("group")
        self.name = None

    def settings(self, **settings):
        return {"brokers": self.kafka.url, "topic": self.topic, "group": self.group, **settings}

    def add(self, function=FUNCTION, **settings):
        self.name = add(self.server, "kafka", function, **self.settings(**settings))
        return self

    def produce(self, records, **options):
        return self.kafka.produce(self.topic, records, **options)

    def lag(self):
        return lag(self.server, self.name)

    def partition(self, number=0):
        return partitions(self.server, self.name).get(number)

    def committed(self):
        """{partition: offset}"""
        return {number: offset for number, (offset, _) in self.kafka.committed(self.group).get(self.topic, {}).items() if offset >= 0}

    def wait_committed(self, seconds=60):
        wait_committed(self.kafka, self.group, self.topic, seconds)

    def act(self, what, **body):
        return act(self.server, self.name, what, **body)


def finished_beyond(offset, metadata):
    """The offsets that a commit's metadata says are finished beyond the committed one (core/offsets.h)."""
    if not metadata.startswith("w"):
        return set()
    data = base64.urlsafe_b64decode(metadata[1:] + "=" * (-len(metadata[1:]) % 4))[4:]
    lengths, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            lengths.append(number)
            number, shift = 0, 0
    found = set()
    for unfinished, finished in zip(lengths[0::2], lengths[1::2]):
        offset += unfinished
        found.update(range(offset, offset + finished))
        offset += finished
    return found


class Committed:
    """What a group had committed at one moment."""

    def __init__(self, kafka, group, topic):
        self.of = {number: (offset, finished_beyond(offset, metadata))
                   for number, (offset, metadata) in kafka.committed(group).get(topic, {}).items()}

    def __contains__(self, place):
        offset, beyond = self.of.get(place[0], (0, set()))
        return place[1] < offset or place[1] in beyond


def cpu_seconds(server):
    """Of the server itself, without its instances."""
    with open(f"/proc/{server.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(server):
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


# ---- what happened -----------------------------------------------------------------------------------------------------


def place_of(text):
    partition, colon, offset = text.partition(":")
    return (int(partition), int(offset)) if colon else int(partition)


def place_of_letter(letter):
    at = letter["source"]["at"]
    at = json.loads(at) if isinstance(at, str) else at
    return at["partition"], at["offset"]


Call = collections.namedtuple("Call", "ns attempt places")


class Journal:
    """What handlers of HANDLER told: `ok` {place: [(nanoseconds, index in its call)…]}, in order of time; `bad` and `calls` are lists
    of Call. The times are of one clock for all processes of the machine, so they compare."""

    def __init__(self, collector):
        self._collector, self._at = collector, 0
        self._ok = collections.defaultdict(list)
        self._bad, self._calls = [], []
        self._lock = threading.Lock()

    def _read(self):
        lines = self._collector.lines
        for line in lines[self._at:]:
            word, *words = line.split()
            if word not in ("ok", "bad", "call"):
                continue  # another function's
            ns, attempt, *places = words
            call = Call(int(ns), int(attempt), [place_of(text) for text in places])
            if word == "ok":
                for index, place in enumerate(call.places):
                    self._ok[place].append((call.ns, index))
            else:
                (self._bad if word == "bad" else self._calls).append(call)
        self._at = len(lines)

    def _fresh(self, name):
        with self._lock:
            self._read()
            return getattr(self, name)

    @property
    def ok(self):
        return {place: sorted(times) for place, times in dict(self._fresh("_ok")).items()}

    @property
    def ok_count(self):
        """How many different records succeeded."""
        return len(self._fresh("_ok"))

    @property
    def bad(self):
        return sorted(self._fresh("_bad"))

    @property
    def calls(self):
        return sorted(self._fresh("_calls"))

    def missing(self, places):
        done = self._fresh("_ok")
        return [place for place in places if place not in done]

    def wait_ok(self, places, seconds=60):
        places = list(places)
        wait_until(lambda: not self.missing(places), seconds,
                   lambda: f"{len(places)} records done ({len(self.missing(places))} are missing, such as {self.missing(places)[:5]})")

    def repeated(self):
        """{place: times} of what succeeded more than once."""
        return {place: times for place, times in self.ok.items() if len(times) > 1}

    def attempts_alone(self, place):
        """The failed calls of this record alone: their attempt numbers."""
        return [call.attempt for call in self.bad if call.places == [place]]


def check_once(journal, places):
    places = list(places)
    assert journal.missing(places) == []
    assert journal.repeated() == {}, "records that were done ran again"
    assert set(journal.ok) == set(places), "a record was done that should not have been"


def by_key(keys, places):
    """{key: its places in the order in which they were written}"""
    found = collections.defaultdict(list)
    for key, place in zip(keys, places, strict=True):
        found[key].append(place)
    return found


def check_order(journal, sequences):
    """The first completions of each sequence came in its order; those that never succeeded are passed over."""
    first = {place: times[0] for place, times in journal.ok.items()}
    for key, places in sequences.items():
        done = [(first[place], place) for place in places if place in first]
        assert done == sorted(done), f"key {key!r} is out of order: {[(p, t) for t, p in done][:20]}"


def wait_letters(server, places, seconds=60, **filter):
    """Waits for the dead letters of exactly these records; returns them by place."""
    places = sorted(places)
    letters = server.wait_letters(len(places), seconds, **filter)
    assert sorted(map(place_of_letter, letters)) == places
    return {place_of_letter(letter): letter for letter in letters}


# ---- load --------------------------------------------------------------------------------------------------------------


class Feeder:
    """Writes records to a topic from a thread, always a little ahead of what is finished, so that there is something to do until
    the last. `places`: where they are, as far as the broker has confirmed them, None before."""

    def __init__(self, kafka, topic, records, finished, ahead):
        self._topic, self._records, self._finished, self._ahead = topic, records, finished, ahead
        self.places = [None] * len(records)
        self._confirmed, self._errors = 0, []
        self._stop = threading.Event()
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": kafka.url, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 120000})
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *why):
        if why[0]:
            self._stop.set()
        self._thread.join(150)
        assert not self._thread.is_alive(), "the records are not written"
        if not why[0]:
            assert not self._errors, self._errors[:3]
            assert None not in self.places

    def _on_delivery(self, index):
        def done(error, message):
            if error is None:
                self.places[index] = (message.partition(), message.offset())
                self._confirmed += 1
            else:
                self._errors.append(str(error))
        return done

    def _run(self):
        for index, (key, value) in enumerate(self._records):
            while index - self._finished() >= self._ahead and not self._stop.is_set():
                self._producer.poll(0.01)
            if self._stop.is_set() or self._errors:
                break
            self._producer.produce(self._topic, value, key, on_delivery=self._on_delivery(index))
            if index % 100 == 0:
                self._producer.poll(0)
        deadline = time.monotonic() + 120
        while self._producer.flush(0.1) and time.monotonic() < deadline and not self._stop.is_set():
            pass
