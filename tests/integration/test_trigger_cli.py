# SPDX-License-Identifier: Apache-2.0
"""weir trigger: against a stand-in for the server (what is sent, printed, and the exit code), then against a real one whose
broker is away."""
import json
import os
import pathlib
import re
import subprocess
import urllib.parse

import pytest

import openapi_check
from fake_server import FakeServer, error
from waiting import wait_until

WEIR = os.environ.get("WEIR_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build/weir")
SECONDS = 60
NAME = "kafka-orders"


def trigger(name=NAME, state="active", **settings):
    return {"name": name, "function": "orders", "kind": "kafka", "state": state, "createdMs": 1760000000000,
            "changedMs": 1760000036000, "settings": {"brokers": "127.0.0.1:9092", "topic": "shop", **settings}}


def partition(number, lag=0, paused=None, **more):
    return {"partition": number, "assigned": True, "committed": 100, "position": 120, "end": 120 + lag, "lag": lag, "inFlight": 3,
            "paused": paused, **more}


def lag(*partitions, state="active", up=True, why=None, breaker=None, error=None, **binding):
    return {"trigger": NAME, "state": state, "source": {"up": up, "error": error, "partitions": list(partitions)},
            "binding": {"inFlight": 3, "waiting": 0, "parkedKeys": 0, "retrying": 0, "ok": 9, "failed": 0, "filtered": 0,
                        "breaker": breaker, "why": why, **binding}}


def listing(*all_triggers):
    """The answer of a server that has these: a function of the request, to be expected as often as it is asked."""
    def answer(request):
        openapi_check.check("GET", "/v1/triggers?" + urllib.parse.urlencode(request["query"]), 200,
                            {"Content-Type": "application/json", "X-Weir-Request-Id": "0192f3c4-0000-7000-8000-000000000001"},
                            json.dumps(page(request["query"])).encode())
        return 200, page(request["query"])

    def page(query):
        found = sorted((t for t in all_triggers if all(query.get(key, t[key]) == t[key] for key in ("function", "kind", "state"))
                        and t["name"] > query.get("cursor", "")), key=lambda t: t["name"])
        limit = int(query.get("limit", 100))
        return {"triggers": found[:limit], "next": found[limit - 1]["name"] if len(found) > limit else None}
    return [answer] * 9


@pytest.fixture
def fake():
    server = FakeServer()
    handler = server.http.RequestHandlerClass
    handler.do_PATCH = handler.do_POST
    yield server
    server.close()


def run_weir(url, *words, rc=0):
    env = {**os.environ, "WEIR_SERVER": url}
    env.pop("WEIR_TOKEN", None)
    done = subprocess.run([WEIR, "trigger", *map(str, words)], env=env, timeout=SECONDS, capture_output=True, text=True)
    assert done.returncode == rc, done.stdout + done.stderr
    return done


@pytest.fixture
def weir(fake):
    return lambda *words, rc=0: run_weir(fake.url, *words, rc=rc)


def body_of(request):
    body = json.loads(request["body"])
    openapi_check.check_request(request["method"], request["path"], body)
    return body


# ---- what is sent -----------------------------------------------------------------------------------------------------------


def test_add_sends_the_settings_as_they_are(weir, fake):
    fake.expect("POST", "/v1/triggers", (201, trigger()))
    pattern = '{"body":{"note":["a=b"]}}'
    said = weir("add", "orders", "kafka", "brokers=127.0.0.1:9092", "topic=shop", "kafka.sasl.password=a=b c", f"filter={pattern}",
                "--name", NAME).stdout
    assert body_of(fake.requests[-1]) == {
        "function": "orders", "kind": "kafka", "name": NAME,
        "settings": {"brokers": "127.0.0.1:9092", "topic": "shop", "kafka.sasl.password": "a=b c", "filter": pattern}}
    assert said.startswith("kafka-orders added: kafka shop goes to orders")
    fake.expect("POST", "/v1/triggers", (201, trigger()))
    shown = json.loads(weir("add", "orders", "kafka", "topic=shop", "--json").stdout)
    assert "name" not in body_of(fake.requests[-1]) and shown == trigger()


def test_the_servers_words_about_a_wrong_setting_come_whole(weir, fake):
    words = "topic: there is no topic 'shp'\n  did you mean shop?\nbatch: 0 is too few"
    fake.expect("POST", "/v1/triggers", (400, error("InvalidArgument", words)))
    assert words in weir("add", "orders", "kafka", "topic=shp", "batch=0", rc=1).stderr


def test_change_sends_null_for_what_goes(weir, fake):
    fake.expect("PATCH", f"/v1/triggers/{NAME}", (200, trigger()))
    assert "kafka-orders changed" in weir("change", NAME, "batch=500", "window=").stdout
    assert body_of(fake.requests[-1]) == {"settings": {"batch": "500", "window": None}}


@pytest.mark.parametrize("verb, said", [("pause", "is paused"), ("resume", "is active")])
def test_pause_and_resume(weir, fake, verb, said):
    fake.expect("POST", f"/v1/triggers/{NAME}/{verb}", (200, trigger()), (409, error("Conflict", "it is seeking")))
    assert f"{NAME} {said}" in weir(verb, NAME).stdout
    assert "it is seeking" in weir(verb, NAME, rc=1).stderr


@pytest.mark.parametrize("word, to", [
    ("to=earliest", "earliest"), ("latest", "latest"), ("to=2026-11-20T00:00Z", "2026-11-20T00:00Z"),
    ("to=offset:0=1200,3=77", "offset:0=1200,3=77"), ("offset:0=1", "offset:0=1")])
def test_seek_sends_the_place(weir, fake, word, to):
    fake.expect("POST", f"/v1/triggers/{NAME}/seek", (200, trigger()))
    assert to in weir("seek", NAME, word).stdout
    assert body_of(fake.requests[-1]) == {"to": to}


def test_seek_takes_an_age(weir, fake):
    fake.expect("POST", f"/v1/triggers/{NAME}/seek", (200, trigger()))
    weir("seek", NAME, "to=2h")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body_of(fake.requests[-1])["to"])


def test_remove(weir, fake):
    fake.expect("DELETE", f"/v1/triggers/{NAME}", (200, {"name": NAME}))
    assert f"{NAME} removed" in weir("remove", NAME, "--yes").stdout
    assert fake.sent("DELETE", f"/v1/triggers/{NAME}")


@pytest.mark.parametrize("words, said", [
    (["add", "orders"], "it needs FUNCTION KIND"),
    (["add", "orders", "topic=shop"], "first FUNCTION and KIND"),
    (["add", "orders", "kafka", "shop"], "'shop' is no setting"),
    (["add", "orders", "kafka", "=shop"], "is no setting"),
    (["add", "orders", "kafka", "topic="], "topic= has no value"),
    (["add", "orders", "kafka", "topic=a", "topic=b"], "topic is given twice"),
    (["change", NAME], "it needs NAME"),
    (["seek", NAME], "it needs NAME to=PLACE"),
    (["seek", NAME, "to="], "needs a place"),
    (["settings", "mqtt"], "neither kafka nor amqp"),
    (["pase", NAME], "did you mean 'weir trigger pause'"),
])
def test_wrong_use_ends_with_2_and_sends_nothing(weir, fake, words, said):
    assert said in weir(*words, rc=2).stderr
    assert fake.requests == []


# ---- what is printed --------------------------------------------------------------------------------------------------------


def test_list(weir, fake):
    both = [{**trigger("amqp-q", "seeking"), "kind": "amqp", "settings": {"queue": "q", "batch": "7"}}, trigger()]
    fake.expect("GET", "/v1/triggers", *listing(*both))
    done = weir("list")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "FUNCTION", "KIND", "STATE", "SOURCE", "ORDER", "BATCH", "CHANGED"]
    assert rows[1][:7] == ["amqp-q", "orders", "amqp", "seeking", "q", "-", "7"]
    assert rows[2][:7] == [NAME, "orders", "kafka", "active", "shop", "key", "100"]
    assert "weir trigger resume" in done.stderr
    assert json.loads(weir("list", "orders", "--json").stdout) == {"triggers": both}
    assert fake.requests[-1]["query"] == {"function": "orders", "limit": "1000"}
    assert json.loads(weir("list", "--state", "seeking", "-k", "amqp", "--json").stdout) == {"triggers": both[:1]}
    assert fake.requests[-1]["query"] == {"kind": "amqp", "state": "seeking", "limit": "1000"}
    assert "there are no such triggers" in weir("list", "--kind", "timer").stderr
    assert "kafka|amqp|timer" in weir("list", "--kind", "mqtt", rc=2).stderr
    assert "nobody has no triggers" in weir("list", "nobody").stderr


def test_list_follows_the_pages(weir, fake):
    many = [trigger(f"t{i:04}") for i in range(2500)]
    fake.expect("GET", "/v1/triggers", *listing(*many))
    assert json.loads(weir("list", "orders", "--json").stdout) == {"triggers": many}
    assert [request["query"].get("cursor") for request in fake.requests] == [None, "t0999", "t1999"]
    assert {request["query"]["function"] for request in fake.requests} == {"orders"}
    assert len(weir("list").stdout.splitlines()) == 2501
    fake.expect("GET", "/v1/triggers", listing(*many)[0], (503, error("Unavailable", "the store is away")))
    done = weir("list", rc=1)
    assert "the store is away" in done.stderr and done.stdout == "", "half a list looks like a whole one"


def test_show(weir, fake):
    fake.expect("GET", f"/v1/triggers/{NAME}", (200, trigger(filter='{"a":[1]}')))
    said = weir("show", NAME).stdout
    assert "kafka to orders, active" in said
    assert '  filter         {"a":[1]}\n' in said
    assert "there is no such thing" in weir("show", "nobody", rc=1).stderr


def lag_of(weir, fake, answer, *more):
    openapi_check.check("GET", f"/v1/triggers/{NAME}/lag", 200, {"Content-Type": "application/json", "X-Weir-Request-Id":
                        "0192f3c4-0000-7000-8000-000000000001"}, json.dumps(answer).encode())
    fake.expect("GET", "/v1/triggers", *listing(trigger(), trigger("other") | {"function": "audit"}))
    fake.expect("GET", f"/v1/triggers/{NAME}/lag", (200, answer))
    return weir("lag", "orders", *more).stdout


def test_lag_by_partition(weir, fake):
    said = lag_of(weir, fake, lag(partition(0), partition(1, 80, "metadata full"), partition(2, assigned=False)))
    head, titles, *rows = said.splitlines()
    assert head == f"{NAME}: active, 80 behind: partition 1: metadata full"
    assert titles.split() == ["PARTITION", "COMMITTED", "POSITION", "END", "LAG", "IN-FLIGHT", "PARKED", "WHY"]
    assert rows[0].split() == ["0", "100", "120", "120", "0", "3", "-"]
    assert rows[1].split() == ["1", "100", "120", "200", "80", "3", "-", "metadata", "full"]
    assert rows[2].endswith("at another node")


@pytest.mark.parametrize("answer, said", [
    (lag(partition(0)), "active, not behind: 3 in flight"),
    (lag(partition(0, 5), parkedKeys=2), "5 behind: 3 in flight, 2 parked keys wait for a retry"),
    (lag(partition(0, 5), retrying=1), "5 behind: 3 in flight, 1 being retried"),
    (lag(partition(0, 5), state="paused"), "paused, 5 behind: paused by an operator; weir trigger resume kafka-orders"),
    (lag(state="seeking"), "seeking, nothing known of the source: its offsets are being set"),
    (lag(partition(0, 5), up=False, error="connection refused"), "the broker is away: connection refused"),
    (lag(partition(0, 5), why="no instance: orders is at its limit"), "5 behind: no instance: orders is at its limit"),
    (lag(partition(0, 5), error="a fetch failed"), "last error: a fetch failed"),
    (lag(partition(0, 5)) | {"binding": None}, "this server does not consume it"),
    (lag(partition(0, 5)) | {"source": None}, "the broker is away"),
    (lag(partition(0, 5), breaker={"state": "open", "why": "80% fail with KeyError", "sinceMs": 1760000000000, "probeMs": 0}),
     "d: 80% fail with KeyError"),
    (lag(partition(0, 5), breaker={"state": "closed", "why": None, "sinceMs": 0, "probeMs": 0}), "5 behind: 3 in flight"),
])
def test_lag_says_why(weir, fake, answer, said):
    assert said in lag_of(weir, fake, answer).splitlines()[0]


def test_lag_of_a_queue(weir, fake):
    queue = {"partition": 0, "queue": "q", "ready": 12, "unacked": 3, "prefetch": 64, "lag": 12, "inFlight": 3, "paused": None}
    head, titles, row = lag_of(weir, fake, lag(queue)).splitlines()
    assert "12 behind" in head
    assert titles.split() == ["QUEUE", "READY", "UNACKED", "PREFETCH", "IN-FLIGHT", "WHY"]
    assert row.split() == ["q", "12", "3", "64", "3"]


def test_lag_as_json_and_of_nothing(weir, fake):
    assert json.loads(lag_of(weir, fake, lag(partition(0)), "--json")) == lag(partition(0))
    named = trigger("orders") | {"function": "audit"}  # called as a function is
    fake.expect("GET", "/v1/triggers", *listing(named, trigger(), trigger("second")))
    for name in (NAME, "second"):
        fake.expect("GET", f"/v1/triggers/{name}/lag", (200, lag() | {"trigger": name}))
    shown = json.loads(weir("lag", "orders", "--json").stdout)
    assert [one["trigger"] for one in shown["triggers"]] == [NAME, "second"]
    for name in ("orders", NAME, "second"):
        fake.expect("GET", f"/v1/triggers/{name}/lag", (200, lag() | {"trigger": name}))
    fake.expect("GET", "/v1/triggers/orders", (200, named))
    shown = json.loads(weir("lag", "orders", "--json").stdout)
    assert [one["trigger"] for one in shown["triggers"]] == ["orders", NAME, "second"]
    fake.expect("GET", "/v1/triggers/second", (200, trigger("second")))
    fake.expect("GET", "/v1/triggers/second/lag", (200, lag() | {"trigger": "second"}))
    assert json.loads(weir("lag", "second", "--json").stdout)["trigger"] == "second"
    own = trigger("own") | {"function": "own"}  # both at once, as a timer is when nobody says otherwise
    fake.expect("GET", "/v1/triggers", *listing(own))
    fake.expect("GET", "/v1/triggers/own", (200, own))
    fake.expect("GET", "/v1/triggers/own/lag", (200, lag() | {"trigger": "own"}))
    assert json.loads(weir("lag", "own", "--json").stdout)["trigger"] == "own"
    assert "there is no trigger nobody" in weir("lag", "nobody", rc=1).stderr
    assert "there is no trigger " in weir("lag", "", rc=1).stderr
    fake.expect("GET", "/v1/triggers/second", (503, error("Unavailable", "the store is away")))
    assert "the store is away" in weir("lag", "second", rc=1).stderr


def test_lag_watches(fake):
    fake.expect("GET", f"/v1/triggers/{NAME}", *[(200, trigger())] * 2, (500, error("InternalError", "enough")))
    fake.expect("GET", "/v1/triggers", *listing())
    fake.expect("GET", f"/v1/triggers/{NAME}/lag", (200, lag(partition(0))), (200, lag(partition(0, 1))))
    said = run_weir(fake.url, "lag", NAME, "--watch", "--json", rc=1).stdout.splitlines()
    assert [json.loads(line)["source"]["partitions"][0]["lag"] for line in said] == [0, 1]


def test_settings_and_help(weir):
    said = weir("settings", "amqp").stdout
    assert re.search(r"^url +amqp +needed", said, re.M) and "topic" not in said
    assert "kafka.*" in weir("settings", "kafka").stdout
    assert {"name", "kind", "default", "required", "words", "help"} <= set(json.loads(weir("settings", "--json").stdout)["settings"][0])
    shown = weir("add", "--help").stdout
    assert " kafka brokers=" in shown and " amqp url=" in shown


# ---- a real server, whose broker is away ------------------------------------------------------------------------------------


@pytest.fixture
def real(serve):
    server = serve()
    server.deploy("orders", "def main_handler(event, context):\n    return event\n")
    server.weir = lambda *words, rc=0: run_weir(server.url, *words, rc=rc)
    return server


SETTINGS = ["brokers=127.0.0.1:1", "topic=shop", "check=no", "kafka.security.protocol=SASL_PLAINTEXT", "kafka.sasl.mechanism=PLAIN",
            "kafka.sasl.username=u", "kafka.sasl.password=hunter2"]


def test_a_triggers_life(real):
    said = real.weir("add", "orders", "kafka", *SETTINGS).stdout
    assert said.startswith("kafka-shop added")
    assert "hunter2" not in real.weir("show", "kafka-shop").stdout + real.weir("list", "--json").stdout
    assert "already" in real.weir("add", "orders", "kafka", *SETTINGS, rc=1).stderr
    assert "kafka-shop changed" in real.weir("change", "kafka-shop", "batch=7", "kafka.sasl.password=***").stdout
    assert json.loads(real.weir("show", "kafka-shop", "--json").stdout)["settings"]["batch"] == "7"
    real.weir("pause", "kafka-shop")
    assert "paused" in real.weir("list", "orders").stdout
    assert "no place to seek to" in real.weir("seek", "kafka-shop", "to=yesterday", rc=1).stderr
    real.kill9()
    real.start()  # it is still there, and as it was
    assert "paused" in real.weir("list").stdout
    real.weir("resume", "kafka-shop")
    wait_until(lambda: "the broker is away" in real.weir("lag", "orders").stdout, 30)
    assert "kafka-shop removed" in real.weir("remove", "kafka-shop", "--yes").stdout
    assert "there are no triggers" in real.weir("list").stderr


def test_answers_fit_the_description(real):
    """Server.http holds every answer against schema/openapi.yaml."""
    settings = dict(word.split("=", 1) for word in SETTINGS)
    add = {"function": "orders", "kind": "kafka", "name": "t", "settings": settings | {"batch": 5}}
    calls = [("POST", "", add, 201), ("POST", "", add, 409), ("POST", "", {"kind": "kafka"}, 400), ("GET", "", None, 200),
             ("GET", "?function=nobody", None, 200), ("GET", "/t", None, 200), ("GET", "/u", None, 404),
             ("PATCH", "/t", {"settings": {"batch": None}}, 200), ("POST", "/t/pause", None, 200), ("GET", "/t/lag", None, 200),
             ("POST", "/t/resume", None, 200), ("POST", "/t/seek", {"to": "nowhere"}, 400), ("GET", "/t/lag", None, 200),
             ("DELETE", "/t", None, 200), ("DELETE", "/t", None, 404)]
    for method, path, body, status in calls:
        got, _, answer = real.http(method, "/v1/triggers" + path, body)
        assert (method, path, got) == (method, path, status), answer


def test_a_wrong_setting_is_explained_and_nothing_added(real):
    said = real.weir("add", "orders", "kafka", "brokers=127.0.0.1:1", "topc=shop", "check=no", rc=1).stderr
    assert "topc" in said and "topic" in said
    assert "no function" in real.weir("add", "nobody", "kafka", "topic=a", "brokers=b:1", "check=no", rc=1).stderr
    said = real.weir("add", "orders", "kafka", "brokers=127.0.0.1:1", "topic=shop", rc=1).stderr
    assert "127.0.0.1:1" in said
    assert json.loads(real.weir("list", "--json").stdout) == {"triggers": []}


def timer(server, name):
    body = {"function": "orders", "kind": "timer", "name": name, "settings": {"every": "90d"}}
    assert server.http("POST", "/v1/triggers", body)[0] == 201


def test_pages_join_to_the_whole_while_triggers_come_and_go(real):
    there = [f"t{i:02}" for i in range(30)]
    for name in [*there, "t28-goes"]:
        timer(real, name)
    seen, came, cursor = [], [], ""
    while cursor is not None and len(seen) < 100:
        status, _, page = real.http("GET", f"/v1/triggers?limit=7&cursor={cursor}")
        assert status == 200 and len(page["triggers"]) <= 7
        seen += [one["name"] for one in page["triggers"]]
        cursor = page["next"]
        if cursor:
            assert cursor == seen[-1] and real.http("DELETE", f"/v1/triggers/{cursor}")[0] == 200
            came.append(cursor + "-next")
            for name in (came[-1], "before-" + cursor):
                timer(real, name)
        real.http("DELETE", "/v1/triggers/t28-goes")
    assert len(came) > 3 and seen == sorted(there + came), "each once: what was there, and what came behind the cursor"
    listed = lambda *words: [one["name"] for one in json.loads(real.weir("list", *words, "--json").stdout)["triggers"]]
    left = sorted([*(set(seen) - {name.removesuffix("-next") for name in came}), *("before-" + name.removesuffix("-next") for name in came)])
    assert listed() == listed("orders", "--kind", "timer", "--state", "active") == left
    assert real.http("GET", "/v1/triggers?kind=kafka")[2] == {"triggers": [], "next": None}


def test_a_listing_refuses_what_it_does_not_know(real):
    for query, word in (("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("cursor=%2F", "cursor"), ("cursor=" + "n" * 101, "cursor"),
                        ("kind=mqtt", "kind"), ("state=gone", "state"), ("order=newest", "order")):
        status, _, answer = real.http("GET", "/v1/triggers?" + query)
        assert status == 400 and word in answer["message"], query


def test_goes_with_its_function(real):
    real.weir("add", "orders", "kafka", *SETTINGS)
    subprocess.run([WEIR, "fn", "delete", "orders", "--yes", "--server", real.url], check=True, capture_output=True, timeout=SECONDS)
    wait_until(lambda: json.loads(real.weir("list", "--json").stdout) == {"triggers": []}, 30)


def test_nodes_that_share_a_store_agree(serve, real_backend):
    """What one node changes, the others see within the second in which they look at the revision; and on PostgreSQL."""
    one, two = serve(backend=real_backend), serve(backend=real_backend)
    one.deploy("orders", "def main_handler(event, context):\n    return event\n")
    state_at = lambda server: [t["state"] for t in server.http("GET", "/v1/triggers")[2]["triggers"]]
    run_weir(one.url, "add", "orders", "kafka", *SETTINGS)
    wait_until(lambda: state_at(two) == ["active"], 30)
    assert "already" in run_weir(two.url, "add", "orders", "kafka", *SETTINGS, rc=1).stderr
    run_weir(two.url, "pause", "kafka-shop")
    wait_until(lambda: state_at(one) == ["paused"], 30)
    run_weir(one.url, "change", "kafka-shop", "batch=7")
    run_weir(one.url, "resume", "kafka-shop")
    wait_until(lambda: state_at(two) == ["active"], 30)
    assert two.http("GET", "/v1/triggers/kafka-shop")[2]["settings"]["batch"] == "7"
    assert "127.0.0.1:1" in run_weir(one.url, "seek", "kafka-shop", "to=latest", rc=1).stderr  # the former state came back
    wait_until(lambda: state_at(two) == ["active"], 30)
    subprocess.run([WEIR, "fn", "delete", "orders", "--yes", "--server", two.url], check=True, capture_output=True, timeout=SECONDS)
    wait_until(lambda: state_at(one) == [] and state_at(two) == [], 30)
