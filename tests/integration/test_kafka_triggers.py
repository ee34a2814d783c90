# SPDX-License-Identifier: Apache-2.0
"""What an operator does with Kafka triggers: add (and be told what is wrong), list, pause, seek, look at the lag, remove; and what
a trigger does besides running a function: filter, sinks, relay, breaker, the way back to the origin."""
import json
import socket

import pytest

from pipeline import (
    ALONE, FUNCTION, MENDED, Journal, Line, check_once, deploy, record, try_add, wait_letters, wait_no_lag)
from waiting import stays, wait_until


@pytest.fixture
def server(serve):
    return serve(ALONE)


@pytest.fixture
def journal(collector):
    return Journal(collector)


@pytest.fixture
def line(kafka, topic, server):
    return lambda partitions=1, **config: Line(kafka, server, topic(partitions, **config))


def numbered(count, **body):
    return [record(b"key-%d" % (n % 7), n=n, **body) for n in range(count)]


def dead_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# ---- adding ------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_wrong_settings_are_explained(kafka, server, line):
    deploy(server)
    stream = line(1)
    right = {"brokers": kafka.url, "topic": stream.topic}
    wrong = [
        ({"topic": stream.topic[:-1] + "x"}, 404, stream.topic, "the topic that it may mean"),
        ({"brokers": f"127.0.0.1:{dead_port()}"}, 503, "127.0.0.1", "the broker that does not answer"),
        ({"brokers": "not a host"}, 400, "brokers", ""),
        ({"grop": "g"}, 400, "group", "the nearest name"),
        ({"queue": "q"}, 400, "amqp", "a setting of the other kind"),
        ({"batch": "0"}, 400, "1", "the range"),
        ({"batch": "many"}, 400, "batch", ""),
        ({"window": "soon"}, 400, "window", ""),
        ({"order": "size"}, 400, "none|partition|key", "the words"),
        ({"shape": "xml"}, 400, "cloudevents", "the words"),
        ({"shape": "raw", "batch": "5"}, 400, "raw", ""),
        ({"relay": "yes", "order": "key"}, 400, "order=none", ""),
        ({"filter": '{"body":{"n":[{"numeric":["~",1]}]}}'}, 400, "body.n", "where in the pattern"),
        ({"filter": "{"}, 400, "filter", ""),
        ({"on_success": "mail:me"}, 400, "on_success", ""),
        ({"on_failure": "function:nobody"}, 404, "nobody", ""),
        ({"kafka.enable.auto.commit": "true"}, 400, "enable.auto.commit", ""),
        ({"kafka.no.such.thing": "1"}, 400, "no.such.thing", ""),
        ({"kafka.session.timeout.ms": "soon"}, 400, "session.timeout.ms", ""),
        ({"kafka.security.protocol": "SASL_PLAINTEXT", "kafka.sasl.mechanism": "PLAIN", "kafka.sasl.username": "u",
          "kafka.sasl.password": "secret"}, 400, "SASL", "a login where there is none"),
    ]
    for settings, statuses, text, why in wrong:
        status, body = try_add(server, "kafka", **{**right, **settings})
        assert status in (statuses if isinstance(statuses, tuple) else (statuses,)), f"{settings}: {status} {body}"
        assert text in body["message"], f"{settings}: {body['message']!r} does not say {text!r}: {why}"
        assert "secret" not in body["message"]
    status, body = try_add(server, "kafka", "nobody", **right)
    assert status == 404 and "nobody" in body["message"]
    status, body = try_add(server, "pigeon", **right)
    assert status == 400 and "kafka" in body["message"]
    status, body = try_add(server, "kafka", brokers=kafka.url)
    assert status == 400 and "topic" in body["message"]
    assert server.http("GET", "/v1/triggers")[2]["triggers"] == [], "one of them was added"


def test_a_trigger_can_be_added_before_its_topic(kafka, server, line, journal):
    deploy(server)
    stream = line(1)
    stream.topic = kafka.unique("later")
    stream.add(check="off", **{"kafka.topic.metadata.refresh.interval.ms": "500"})
    wait_until(lambda: stream.lag()["source"]["error"], 30, lambda: f"lag says that there is no topic: {stream.lag()}")
    kafka.create_topic(stream.topic, 1)
    places = stream.produce(numbered(20))
    journal.wait_ok(places)


def test_the_commands(kafka, server, line, journal):
    deploy(server)
    stream = line(2)
    places = stream.produce(numbered(20))

    def weir(*words, code=0):
        done = server.cli("trigger", *words)
        assert done.returncode == code, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout + done.stderr

    said = weir("add", FUNCTION, "kafka", *(f"{name}={value}" for name, value in stream.settings(batch=100, window="50ms").items()),
                "from=earliest", "order=key", "shape=scf")
    name = f"kafka-{stream.topic}"
    assert name in said
    journal.wait_ok(places)
    stream.wait_committed()
    assert name in weir("list", FUNCTION) and "active" in weir("list", FUNCTION)
    listed = json.loads(weir("list", FUNCTION, "--json"))
    listed = listed["triggers"] if isinstance(listed, dict) else listed
    assert [each["name"] for each in listed] == [name]
    shown = weir("lag", FUNCTION)
    assert name in shown or stream.topic in shown
    weir("pause", name)
    assert "paused" in weir("list", FUNCTION)
    weir("resume", name)
    weir("seek", name, "to=earliest")
    wait_until(lambda: all(len(times) == 2 for times in journal.ok.values()), 60, "all run again")
    assert "did you mean" in weir("add", FUNCTION, "kafka", f"brokers={kafka.url}", f"topic={stream.topic}", "grup=x", "--name", "other", code=1)
    weir("pause", "nobody", code=1)
    weir("remove", name)
    assert name not in weir("list", FUNCTION)


# ---- lag, pause, remove ------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_pause_resume_and_lag(kafka, server, line, journal):
    deploy(server)
    stream = line(2).add()
    first = stream.produce(numbered(50))
    journal.wait_ok(first)
    stream.wait_committed()
    wait_no_lag(server, stream.name)
    assert stream.act("pause")["state"] == "paused"
    wait_until(lambda: not kafka.group(stream.group).members, 30, "the group was left")
    second = stream.produce(numbered(50))
    wait_until(lambda: sum(each["lag"] for each in stream.lag()["source"]["partitions"]) == 50, 30, lambda: f"{stream.lag()}")
    told = stream.lag()
    assert told["state"] == "paused" and told["trigger"] == stream.name and told["function"] == FUNCTION
    for each in told["source"]["partitions"]:
        assert each["committed"] + each["lag"] == each["end"]
    assert journal.missing(second) == second
    server.restart()
    assert stream.lag()["state"] == "paused" and journal.missing(second) == second, "a paused trigger stays paused over a restart"
    assert stream.act("resume")["state"] == "active"
    journal.wait_ok(second)
    stream.wait_committed()
    check_once(journal, first + second)


def test_lag_says_why(server, line, journal, folder):
    gate = folder / "gate"
    deploy(server, maxInstances=1)
    stream = line(1).add(batch=1, max_records=100)
    places = stream.produce([record(b"k%d" % n, n=n, hold=str(gate)) for n in range(1000)])
    told = wait_until(lambda: next((each for each in [stream.partition()] if each and each["paused"] and each["end"] == 1000), None), 30,
                      lambda: f"the partition rests and lag says so: {stream.lag()}")
    assert told["lag"] == 1000 and 0 < told["inFlight"] <= 100
    assert stream.lag()["binding"]["inFlight"] <= 100
    gate.touch()
    journal.wait_ok(places)
    stream.wait_committed()
    wait_no_lag(server, stream.name)
    wait_until(lambda: not stream.partition()["paused"], 30, "it rests no more")
    check_once(journal, places)


def test_remove(kafka, server, line, journal):
    deploy(server)
    stream = line(1).add()
    places = stream.produce(numbered(20))
    journal.wait_ok(places)
    assert server.http("DELETE", f"/v1/triggers/{stream.name}")[0] == 200
    wait_until(lambda: not kafka.group(stream.group).members, 30, "the group was left")
    assert stream.committed() == {0: 20}, "what was done was not committed at the end"
    assert server.http("GET", f"/v1/triggers/{stream.name}")[0] == 404
    more = stream.produce(numbered(20))
    stream.add()
    journal.wait_ok(more)
    check_once(journal, places + more)
    server.delete(FUNCTION)
    assert server.http("GET", "/v1/triggers")[2]["triggers"] == [], "a function that is deleted takes its triggers along"
    wait_until(lambda: not kafka.group(stream.group).members, 30, "the group was left")


# ---- seek --------------------------------------------------------------------------------------------------------------


def test_seek(kafka, server, line, journal):
    deploy(server)
    stream = line(2, retention_ms=-1)
    at_ms = 1767225600000  # 2026-01-01
    records = [(b"k", json.dumps({"n": n}).encode(), None, n % 2, at_ms + 60000 * n) for n in range(40)]
    places = stream.produce(records)
    stream.add()
    journal.wait_ok(places)
    stream.wait_committed()

    def runs():
        ok = journal.ok
        return [len(ok.get(place, [])) for place in places]

    def wait_runs(wanted, what):
        wait_until(lambda: runs() == wanted, 60, lambda: f"{what}: {runs()} instead of {wanted}; {stream.lag()}")
        stream.wait_committed()
        assert runs() == wanted, what

    assert runs() == [1] * 40
    assert stream.act("seek", to="earliest")["state"] == "active"
    wait_runs([2] * 40, "all of them again")
    stream.act("seek", to="2026-01-01T00:30Z")
    wait_runs([2] * 30 + [3] * 10, "from a time on")
    stream.act("seek", to="offset:1=18")
    wait_runs([2] * 30 + [3] * 7 + [4, 3, 4], "from an offset of one partition on")  # its records are the odd ones
    stream.act("pause")
    wait_until(lambda: not kafka.group(stream.group).members, 30, "the group was left")
    skipped = stream.produce(records[:4])
    stream.act("seek", to="latest")
    assert stream.lag()["state"] == "paused", "a seek changes where it begins, not whether it runs"
    stream.act("resume")
    after = stream.produce(records[:4])
    journal.wait_ok(after)
    stream.wait_committed()
    assert journal.missing(skipped) == skipped
    for to in ("yesterday", "offset:9=1", "offset:x", ""):
        status, _, body = server.http("POST", f"/v1/triggers/{stream.name}/seek", {"to": to})
        assert status == 400, f"{to}: {status} {body}"
    assert stream.lag()["state"] == "active"


def test_letters_of_records_that_run_again_after_a_seek(server, line, journal):
    """The id of an event follows from its record, and from how often the trigger was sought: a second run is a second letter."""
    deploy(server, retries=0)
    stream = line(1)
    places = stream.produce([record(b"k", n=0, poison=True)])
    stream.add()
    first, = server.wait_letters(1)
    stream.wait_committed()
    stream.act("seek", to="earliest")
    letters = server.wait_letters(2)
    assert len({letter["id"] for letter in letters}) == 2 and journal.attempts_alone(places[0]) == [1, 1]
    assert first["id"] in {letter["id"] for letter in letters}


# ---- filter ------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_filter(server, line, journal):
    deploy(server)
    pattern = {"key": [{"prefix": "yes"}], "headers": {"kind": ["order"]}, "body": {"amount": [{"numeric": [">=", 10]}]}}
    stream = line(2).add(filter=json.dumps(pattern))
    order, other = [("kind", b"order")], [("kind", b"offer")]
    wanted = [record(b"yes-%d" % n, headers=order, amount=10 + n) for n in range(20)]
    others = [record(b"no", headers=order, amount=50), record(b"yes", headers=other, amount=50), record(b"yes", headers=order, amount=9),
              record(b"yes", headers=order), record(None, headers=order, amount=50), (b"yes", b"{not json", order), (b"yes", None, order)]
    places = stream.produce(others + wanted + others)
    good = places[len(others):len(others) + len(wanted)]
    journal.wait_ok(good)
    stream.wait_committed()
    check_once(journal, good)
    assert server.letters() == [] and server.metric("weir_records_filtered_total", stream.name) == 2 * len(others)


# ---- sinks -------------------------------------------------------------------------------------------------------------


def test_results_go_to_a_topic_and_letters_to_a_function(kafka, server, line, topic, journal, collector):
    deploy(server, retries=0)
    server.deploy("hears", """
        import json
        from collect import tell
        def main_handler(event, context):
            tell("heard", json.dumps(event).replace(" ", ""))
    """)
    results = topic(3)
    stream = line(2).add(on_success=f"kafka:{results}", on_failure="function:hears", batch=1)
    records = numbered(30) + [record(b"bad", n=99, poison=True)]
    places = stream.produce(records)
    good = places[:-1]
    journal.wait_ok(good)
    stream.wait_committed()
    sent = kafka.consume(results)
    assert len(sent) == len(good), "a record was finished before its result was on the topic"
    for each in sent:
        headers = {name: value.decode() for name, value in each.headers}
        assert headers["ce_specversion"] == "1.0" and headers["ce_id"] and headers["ce_type"] and headers["ce_source"]
        assert json.loads(each.value)["count"] == 1
    assert sorted(each.key for each in sent) == sorted(key for key, *_ in records[:-1]), "the key of the record"
    assert len({value for each in sent for name, value in each.headers if name == "ce_id"}) == len(good)
    wait_until(lambda: collector.count("heard") == 1, 30, "the letter was sent too")
    wait_letters(server, places[-1:])
    check_once(journal, good)


def test_a_result_that_cannot_be_sent_holds_the_record(kafka, server, line, journal):
    deploy(server)
    missing = kafka.unique("results")
    stream = line(1).add(on_success=f"kafka:{missing}", batch=1, **{"kafka.topic.metadata.refresh.interval.ms": "500"})
    places = stream.produce(numbered(5))
    wait_until(lambda: journal.ok_count >= 1, 30, "a record runs")
    stays(lambda: not stream.committed().get(0), 2, "finished without its result being sent")
    kafka.create_topic(missing, 1)
    wait_until(lambda: len({each.value for each in kafka.consume(missing)}) == 5 or server.letters(), 90,
               lambda: f"all results are sent: {stream.lag()}")
    stream.wait_committed()
    sent = {place for each in kafka.consume(missing) for place in json.loads(each.value)["places"]}
    assert len(sent) + len(server.letters()) == len(places), "a result is gone"


# ---- relay -------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_relay(serve, kafka, topic, journal):
    server = serve(ALONE)
    deploy(server)
    stream = Line(kafka, server, topic(2)).add(relay="yes", order="none")
    records = numbered(200) + [record(b"bad", n=200, poison=True)]
    places = stream.produce(records)
    journal.wait_ok(places[:-1])
    stream.wait_committed()
    wait_letters(server, places[-1:])
    check_once(journal, places[:-1])
    server.restart()
    more = stream.produce(numbered(200))
    journal.wait_ok(more)
    check_once(journal, places[:-1] + more)


# ---- breaker -----------------------------------------------------------------------------------------------------------


def test_the_breaker_opens_and_closes_by_itself(server, line, journal, folder):
    mended = folder / "mended"
    deploy(server, retries=100, backoffMs=[200, 2000])
    stream = line(4).add(batch=1)
    places = stream.produce([record(b"k%d" % n, n=n, fails_until=str(mended)) for n in range(2000)])
    breaker = wait_until(lambda: (stream.lag()["binding"]["breaker"] or {}).get("state") == "open" and stream.lag()["binding"]["breaker"], 60,
                         lambda: f"the breaker opens: {stream.lag()}")
    assert "ValueError" in breaker["why"] and breaker["sinceMs"] >= 0
    assert stream.lag()["binding"]["why"]
    assert server.metric("weir_breaker_opened_total", stream.name) >= 1
    assert server.letters() == [] and stream.committed().get(0, 0) == 0
    mended.touch()
    journal.wait_ok(places, 120)
    stream.wait_committed()
    wait_until(lambda: (stream.lag()["binding"]["breaker"] or {}).get("state") != "open", 60, "it is closed")
    assert server.metric("weir_breaker_open", stream.name) == 0
    check_once(journal, places)
    assert server.letters() == []


def test_no_breaker(server, line, journal):
    deploy(server, retries=0)
    stream = line(4).add(batch=1, breaker="off")
    places = stream.produce(numbered(500, poison=True))
    wait_letters(server, places)
    stream.wait_committed()
    assert not stream.lag()["binding"]["breaker"] or stream.lag()["binding"]["breaker"]["state"] == "off"


# ---- the way back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["cli", "api"])
def test_replay_to_the_origin(kafka, server, line, journal, by):
    deploy(server, retries=1)
    stream = line(3).add()
    headers = [("trace", b"t1"), ("bytes", b"\xff\x00")]
    places = stream.produce([record(b"bad-%d" % n, headers=headers, n=n, poison=True) for n in range(5)])
    wait_letters(server, places)
    stream.wait_committed()
    deploy(server, MENDED, retries=1)
    if by == "cli":
        done = server.cli("dlq", "replay", "--function", FUNCTION, "--to-origin", "--yes")
        assert done.returncode == 0, done.stderr
    else:
        assert server.replay(function=FUNCTION, toOrigin=True)["sent"] == 5
    wait_until(lambda: sum(kafka.end_offsets(stream.topic).values()) == 10, 30, "they are on the topic again")
    written = kafka.consume(stream.topic)
    old, new = [each for each in written if (each.partition, each.offset) in places], \
        [each for each in written if (each.partition, each.offset) not in places]
    assert sorted((each.key, each.value) for each in new) == sorted((each.key, each.value) for each in old)
    assert all([pair for pair in each.headers if pair[0] in ("trace", "bytes")] == headers for each in new)
    journal.wait_ok((each.partition, each.offset) for each in new)
    assert server.letters() == [] and len(server.letters(state="replayed")) == 5


def test_replay_to_the_function(server, line, journal):
    deploy(server, retries=1)
    stream = line(1).add()
    places = stream.produce([record(b"bad", n=n, poison=True) for n in range(3)])
    wait_letters(server, places)
    deploy(server, MENDED, retries=1)
    assert server.replay(function=FUNCTION)["sent"] == 3
    journal.wait_ok(places)
    check_once(journal, places)


def test_a_replay_to_an_origin_that_is_gone(kafka, server, line, journal):
    deploy(server, retries=0)
    stream = line(1).add()
    places = stream.produce([record(b"bad", n=0, poison=True)])
    wait_letters(server, places)
    kafka.delete_topic(stream.topic)
    job = server.start_replay(function=FUNCTION, toOrigin=True)["replay"]

    def told():
        now = server.replay_job(job)
        return now["failed"] == 1 or now["pending"] == 1 and server.letters()
    wait_until(told, 60, lambda: f"it is not sent: {server.replay_job(job)}")
    server.http("POST", f"/v1/replays/{job}/cancel")
    wait_letters(server, places)
