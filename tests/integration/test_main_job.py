# SPDX-License-Identifier: Apache-2.0
"""The main job on both backends: an event becomes a message, runs a function, is retried three times, dies, and is replayed."""
import base64
import itertools
import json
import threading

import pytest
from server import FAST_RETRIES, Refused
from timers import SLOW_MS
from waiting import wait_until

TELLS = """
    from collect import tell
    def main_handler(event, context):
        tell(context["request_id"], context["attempt"])
        return event
"""
POISON = """
    from collect import tell
    def price(event):
        return {"EUR": 1}[event["currency"]]
    def main_handler(event, context):
        print("pricing", event["n"])
        tell("begin", context["request_id"], context["attempt"])
        result = price(event)
        tell(context["request_id"], context["attempt"])
        return result
"""
MENDED = POISON.replace("""[event["currency"]]""", """.get(event["currency"], 0)""")
HOLDS = """
    import os, time
    from collect import tell
    def main_handler(event, context):
        tell("begin", context["request_id"], context["attempt"])
        while not os.path.exists(event["until"]):
            time.sleep(0.01)
        tell(context["request_id"], context["attempt"])
"""


@pytest.fixture
def server(serve, backend):
    return serve(backend=backend)


def quiet(server, name):
    """Nothing of the function waits, runs, or is to be retried."""
    fn = server.function_status(name)
    return fn and fn.get("waiting") == 0 and fn["unsettled"] == 0 and fn["due"] == 0


def wait_quiet(server, name, seconds=30):
    wait_until(lambda: quiet(server, name), seconds, lambda: f"{name} has nothing left to do: {server.function_status(name)}")


# ---- sync ------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_sync_call_returns_what_the_function_returned(server):
    server.deploy("echo", TELLS)
    for value in ({"n": 1, "text": "żółć 道"}, [1, 2.5, None, True], "text", 7, None):
        status, headers, body = server.invoke("echo", value)
        assert (status, body) == (200, value)
        assert headers["content-type"] == "application/json" and headers["x-weir-version"] == "1"
        assert float(headers["x-weir-duration-ms"]) >= 0
    assert server.letters() == []


def test_sync_call_carries_headers_and_tells_its_log(server):
    server.deploy("see", """
        def main_handler(event, context):
            print("first line")
            return {"headers": context["headers"], "id": context["request_id"], "fn": context["function_name"],
                    "attempt": context["attempt"]}
    """)
    status, headers, body = server.invoke("see", {}, {"X-Weir-Header-Tenant": "a b"}, logType="Tail")
    assert status == 200 and base64.b64decode(headers["x-weir-log"]) == b"first line\n"
    assert {name.lower(): value for name, value in body["headers"].items()} == {"tenant": "a b"}
    assert body["id"] == headers["x-weir-request-id"] and body["fn"] == "see" and body["attempt"] == 1


@pytest.mark.short
def test_sync_errors_have_their_statuses(server):
    bad = """
        import os, time
        def main_handler(event, context):
            print("words before")
            if event == "raise": raise KeyError("currency")
            if event == "die": os._exit(3)
            time.sleep(60)
    """
    server.deploy("bad", bad)
    server.deploy("slow", bad, timeoutMs=400)
    status, _, body = server.invoke("bad", "raise")
    assert (status, body["code"], body["errorType"]) == (502, "FunctionError", "KeyError")
    assert "currency" in body["message"] and "in main_handler" in body["stack"] and "words before" in body["log"]
    status, _, body = server.invoke("bad", "die")
    assert (status, body["code"]) == (502, "FunctionCrashed") and "status 3" in body["message"]
    status, _, body = server.invoke("slow", "sleep")
    assert (status, body["code"]) == (504, "FunctionTimeout") and "400 ms" in body["message"]
    status, _, body = server.invoke("nobody", {})
    assert (status, body["code"]) == (404, "NotFound") and "nobody" in body["message"]
    status, _, body = server.invoke("bad:9", {})
    assert status == 404 and "9" in body["message"]
    status, _, body = server.invoke("bad", b"x" * (7 << 20))
    assert status == 413 and "limit" in body["message"]
    with pytest.raises(Refused) as refused:
        server.send("bad", b"x" * (7 << 20))
    assert refused.value.status == 413
    assert server.letters() == [] and server.letters(state="due") == [], "a sync event never becomes a letter"


def test_sync_call_is_retried_within_its_callers_deadline(server, collector):
    server.deploy("third", """
        from collect import tell
        def main_handler(event, context):
            tell("begin", context["request_id"], context["attempt"])
            if context["attempt"] < 3: raise OSError("not yet")
            return context["attempt"]
    """, **FAST_RETRIES)
    status, _, body = server.invoke("third", {}, deadlineMs=50000)
    assert (status, body) == (200, 3)
    status, headers, body = server.invoke("third", {})  # no deadline: the caller hears of the failure at once
    assert (status, body["errorType"]) == (502, "OSError")
    id = headers["x-weir-request-id"]
    wait_until(lambda: collector.about(id), 10, "it was tried")
    assert len(collector.about(id)) == 1


def test_too_many_sync_calls_get_429(serve, backend, folder):
    server = serve({"sync-backlog": 2, "sandbox": "none"}, backend=backend)
    server.deploy("slow", HOLDS, maxInstances=1, timeoutMs=60000)
    release = folder / "release"
    answers, lock = [], threading.Lock()

    def call():
        answer = server.invoke("slow", {"until": str(release)})
        with lock:
            answers.append(answer)

    callers = [threading.Thread(target=call) for _ in range(12)]
    for caller in callers:
        caller.start()
    try:
        wait_until(lambda: len(answers) >= 1, 20, "a call is refused")
    finally:
        release.touch()
        for caller in callers:
            caller.join(60)
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused and all(headers["retry-after"] == "1" and body["code"] == "TooManyRequests" for _, headers, body in refused)
    assert {answer[0] for answer in answers} == {200, 429}, "the others were served"
    assert server.metric("weir_events_refused_total", "TooManyRequests") == len(refused)


# ---- async -----------------------------------------------------------------------------------------------------------


def test_async_events_are_handled_once(server, collector):
    server.deploy("job", TELLS)
    one = server.send("job", {"n": -1})
    ids = server.send_async("job", [{"n": n} for n in range(2000)])
    assert len(set(ids)) == 2000 and one not in ids
    collector.wait_for([one, *ids])
    wait_quiet(server, "job")
    assert collector.repeated([one, *ids]) == {}
    assert set(collector.counts()) == {one, *ids}, "nothing ran that was not sent"
    assert server.letters() == []


@pytest.mark.short
def test_three_retries_then_one_dead_letter(server, collector):
    server.deploy("orders", POISON, **FAST_RETRIES)
    good = server.send_async("orders", [{"n": n, "currency": "EUR"} for n in range(20)])
    bad = server.send("orders", {"n": 99, "currency": "XXX"}, {"X-Weir-Header-Tenant": "acme"})
    letter, = server.wait_letters(1, function="orders")
    collector.wait_for(good)
    wait_quiet(server, "orders")
    assert [words[2] for words in collector.about(bad)] == ["1", "2", "3", "4"], "four attempts, in order"
    assert collector.repeated(good) == {} and len(server.letters()) == 1
    assert letter["id"] == bad and letter["function"] == "orders" and letter["kind"] == "function"
    assert (letter["attempts"], letter["errorType"], letter["version"]) == (4, "KeyError", 1)
    assert letter["dueMs"] is None and letter["source"]["kind"] == "http"
    whole = server.letter(bad)
    assert json.loads(whole["payload"]) == {"n": 99, "currency": "XXX"}
    assert ["tenant", "acme"] in [[name.lower(), value] for name, value in whole["headers"]]
    history = whole["history"]
    assert [each["attempt"] for each in history] == [1, 2, 3, 4]
    for each in history:
        assert each["outcome"] == "error" and each["errorType"] == "KeyError" and "XXX" in each["errorMessage"]
        assert "in price" in each["stack"] and each["log"] == "pricing 99\n"
        assert each["version"] == 1 and each["instance"] > 0 and each["worker"] and each["durationMs"] >= 0
    starts = [each["startMs"] for each in history]
    assert all(later - earlier >= 40 for earlier, later in itertools.pairwise(starts)), f"the back-off of 50 ms less 20 %: {starts}"


def test_backoff_is_kept_and_due_letters_are_seen(server, collector):
    server.deploy("later", POISON, backoffMs=[60000], retries=1)
    bad = server.send("later", {"n": 1, "currency": "?"})
    due, = server.wait_letters(1, state="due", function="later")
    assert due["id"] == bad and due["attempts"] == 1
    failed, = server.letter(bad)["history"]
    assert 47000 < due["dueMs"] - failed["startMs"] - failed["durationMs"] < 72000 + SLOW_MS
    assert server.function_status("later")["due"] == 1 and server.letters() == []


def test_zero_retries(server, collector):
    server.deploy("once", POISON, retries=0)
    bad = server.send("once", {"n": 1, "currency": "?"})
    letter, = server.wait_letters(1, function="once")
    assert (letter["id"], letter["attempts"]) == (bad, 1) and len(collector.about(bad)) == 1


# ---- replay, discard, purge ------------------------------------------------------------------------------------------


@pytest.mark.short
def test_replay_after_a_mended_deploy(server, collector):
    server.deploy("orders", POISON, **FAST_RETRIES)
    bad = server.send_async("orders", [{"n": n, "currency": "XXX"} for n in range(30)])
    letters = server.wait_letters(30, function="orders")
    assert {letter["id"] for letter in letters} == set(bad)
    assert server.deploy("orders", MENDED, **FAST_RETRIES) == 2
    assert server.replay(ids=bad[:1])["sent"] == 1
    assert server.replay(function="orders", error="KeyError")["sent"] == 29
    old = {letter["id"]: letter for letter in server.wait_letters(30, state="replayed", function="orders")}
    assert set(old) == set(bad) and server.letters() == []
    new = [letter["replayId"] for letter in old.values()]
    assert len(set(new)) == 30 and not set(new) & set(bad)
    collector.wait_for(new)
    wait_quiet(server, "orders")
    assert collector.repeated(new) == {} and server.metric("weir_replays_total", "orders") == 30
    assert server.http("POST", "/v1/replays", {"function": "orders"})[0] == 404, "what was replayed is not replayed again"


def test_a_replayed_event_that_dies_again_names_its_origin(server):
    server.deploy("orders", POISON, retries=0)
    bad = server.send("orders", {"n": 1, "currency": "?"})
    server.wait_letters(1)
    server.replay(ids=[bad])
    again, = server.wait_letters(1)
    assert again["id"] != bad and again["originId"] == bad and again["attempts"] == 1
    assert server.letter(bad)["replayId"] == again["id"] and server.letter(bad)["state"] == "replayed"


def test_replay_to_another_function(server, collector):
    server.deploy("orders", POISON, retries=0)
    server.deploy("rescue", MENDED)
    bad = server.send("orders", {"n": 1, "currency": "?"})
    server.wait_letters(1)
    assert server.replay(ids=[bad], to="rescue:1")["sent"] == 1
    collector.wait_for([server.letter(bad)["replayId"]])
    wait_until(lambda: server.function_status("rescue")["ok"] == 1, 20, "it is counted")


def test_discard_and_purge(server):
    server.deploy("orders", POISON, retries=0)
    bad = server.send_async("orders", [{"n": n, "currency": "?"} for n in range(6)])
    server.wait_letters(6)
    assert server.http("POST", "/v1/letters/discard", {"ids": bad[:2]})[2]["discarded"] == 2
    assert server.http("POST", "/v1/letters/discard", {"function": "orders", "limit": 1})[2]["discarded"] == 1
    assert len(server.letters()) == 3 and len(server.letters(state="discarded")) == 3
    status, _, answer = server.http("POST", "/v1/replays", {"ids": [bad[0]]})
    assert status == 409 and "discarded" in answer["message"], "a discarded letter stays where it is"
    assert server.http("POST", "/v1/letters/purge", {"olderThanMs": 3600000, "all": True})[2]["purged"] == 0, "none is that old"
    assert server.http("POST", "/v1/letters/purge", {"olderThanMs": 0, "all": True})[2]["purged"] == 3
    assert server.letters(state="discarded") == [] and len(server.letters()) == 3, "the dead are not purged unasked"
    assert server.http("POST", "/v1/letters/purge", {"olderThanMs": 0, "all": True, "dead": True})[2]["purged"] == 3
    assert server.letters() == [] and server.http("GET", f"/v1/letters/{bad[0]}")[0] == 404
    assert server.http("POST", "/v1/letters/discard", {})[0] == 400, "an empty selection does not mean all"


def test_a_due_letter_can_be_discarded(server, collector):
    server.deploy("later", POISON, backoffMs=[1500], retries=3)

    def discarded_in_time():
        """None when it had been tried again, as may be on a slow machine."""
        id = server.send("later", {"n": 1, "currency": "?"})
        wait_until(lambda: server.http("GET", f"/v1/letters/{id}")[0] == 200, 20, "it failed")
        return id if server.http("POST", "/v1/letters/discard", {"ids": [id]})[2]["discarded"] and len(collector.about(id)) == 1 else None
    bad = wait_until(discarded_in_time, 60, "a letter is discarded before it is due")
    other = server.send("later", {"n": 2, "currency": "?"})  # its second attempt comes after the time of the first one's
    wait_until(lambda: len(collector.about(other)) >= 2, 60, "the neighbour is tried again")
    assert len(collector.about(bad)) == 1 and server.letter(bad)["state"] == "discarded"


# ---- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_deploy_under_load_fails_and_loses_nothing(server, collector):
    source = """
        import time
        from collect import tell
        def main_handler(event, context):
            time.sleep(0.001)
            tell(context["request_id"], context["attempt"], "v%d")
    """
    server.deploy("swap", source % 1, **FAST_RETRIES)
    ids, done = [], threading.Event()

    def send():
        while not done.is_set():
            server.send_async("swap", [{"n": n} for n in range(200)], accepted=ids)
            wait_until(lambda: len(ids) - sum(collector.counts().values()) < 1500 or done.is_set(), 30, "the backlog shrinks")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for number in (2, 3, 4):
            wait_until(lambda: any(line.endswith(f"v{number - 1}") for line in collector.lines), 20, f"version {number - 1} runs")
            assert server.deploy("swap", source % number, **FAST_RETRIES) == number
        wait_until(lambda: any(line.endswith("v4") for line in collector.lines), 20, "version 4 runs")
    finally:
        done.set()
        sender.join(60)
    collector.wait_for(ids)
    wait_quiet(server, "swap")
    assert collector.repeated(ids) == {}
    assert {line.split()[1] for line in collector.lines} == {"1"}, "no attempt failed"
    assert {line.split()[2] for line in collector.lines} == {"v1", "v2", "v3", "v4"}
    assert server.letters() == [] and server.letters(state="due") == []
    assert server.metric("weir_attempts_failed_total", "swap") == 0
    wait_until(lambda: server.function_status("swap")["instances"] <= 2, 20, "instances of former versions are let go")


def test_sync_calls_during_a_deploy_all_succeed(server):
    source = "def main_handler(event, context): return %d"
    server.deploy("swap", source % 1)
    answers, done = [], threading.Event()

    def call():
        while not done.is_set():
            answers.append(server.invoke("swap", {}))

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for number in range(2, 6):
            server.deploy("swap", source % number)
            wait_until(lambda: any(body == number for _, _, body in answers), 20, f"version {number} answers")
    finally:
        done.set()
        for caller in callers:
            caller.join(60)
    assert {status for status, _, _ in answers} == {200}


def test_rollback_and_qualifier(server, collector):
    source = """
        from collect import tell
        def main_handler(event, context):
            tell(context["request_id"], context["function_version"])
            return %d
    """
    for number in (1, 2, 3):
        assert server.deploy("fn", source % number) == number
    assert [server.invoke(name, {})[2] for name in ("fn", "fn:1", "fn:2", "fn:3")] == [3, 1, 2, 3]
    assert server.deploy("fn", source % 3) == 3, "the same code with the same settings is no new version"
    server.set_current("fn", 1)
    assert server.invoke("fn", {})[2] == 1 and server.invoke("fn:3", {})[1]["x-weir-version"] == "3"
    plain, pinned = server.send("fn", {}), server.send("fn:2", {})
    collector.wait_for([plain, pinned])
    assert [words[1] for words in collector.about(plain) + collector.about(pinned)] == ["1", "2"]
    shown = server.http("GET", "/v1/functions/fn")[2]
    assert shown["current"] == 1 and [each["number"] for each in shown["versions"] if each["current"]] == [1]
    assert server.http("POST", "/v1/functions/fn/current", {"version": 9})[0] == 404
    assert server.deploy("fn", source % 4) == 4 and server.invoke("fn", {})[2] == 4


def test_functions_outlive_a_restart(server, collector):
    server.deploy("keep", TELLS, description="kept", timeoutMs=1234)
    server.deploy("keep", TELLS, description="kept too")
    server.set_current("keep", 1)
    before = server.http("GET", "/v1/functions/keep")[2]
    server.restart()
    assert server.http("GET", "/v1/functions/keep")[2] == before
    status, headers, _ = server.invoke("keep", {})
    assert status == 200 and headers["x-weir-version"] == "1"


@pytest.mark.short
def test_delete_with_waiting_events(serve, backend, collector, folder):
    server = serve({"sandbox": "none"}, backend=backend)
    release = folder / "release"
    server.deploy("gone", HOLDS, maxInstances=1)
    server.deploy("stays", TELLS)
    ids = server.send_async("gone", [{"until": str(release)}] * 20)
    wait_until(lambda: collector.count("begin"), 20, "the first event runs")
    server.delete("gone")
    assert server.invoke("gone", {})[0] == 404 and server.function_status("gone") == {}
    assert server.http("DELETE", "/v1/functions/gone")[0] == 404
    with pytest.raises(Refused):
        server.send("gone", {})
    release.touch()
    neighbours = server.send_async("stays", [{}] * 20)
    collector.wait_for(neighbours)
    server.deploy("gone", HOLDS)  # what waited was kept: nothing that was accepted is lost
    wait_until(lambda: len(collector.missing(ids)) == len([each for each in server.letters() if each["id"] in ids]), 30,
               lambda: f"each of the 20 was handled or is a letter; missing {len(collector.missing(ids))}")
    assert collector.repeated(ids) == {}


# ---- instances, logs, metrics, health --------------------------------------------------------------------------------


def test_idle_instances_are_let_go_and_come_back(serve, backend):
    server = serve({"instance-idle": "200ms"}, backend=backend)
    server.deploy("idle", "import os\ndef main_handler(event, context): return os.getpid()")
    assert server.invoke("idle", {})[0] == 200
    wait_until(lambda: server.function_status("idle")["instances"] == 0, 20, "the idle instance is let go")
    starts = server.metric("weir_cold_starts_total", "idle")
    assert server.invoke("idle", {})[0] == 200
    assert server.metric("weir_cold_starts_total", "idle") == starts + 1
    wait_until(lambda: server.metric("weir_instances", "idle") == 0, 20, "and again")


def test_a_warm_instance_is_used_again(server):
    server.deploy("warm", "count = 0\ndef main_handler(event, context):\n    global count\n    count += 1\n    return count")
    assert [server.invoke("warm", {})[2] for _ in range(5)] == [1, 2, 3, 4, 5]


def test_logs(server):
    server.deploy("talk", """
        import sys
        def main_handler(event, context):
            print("out", event["n"])
            print("err", event["n"], file=sys.stderr)
    """)
    assert server.logs("talk")[0] == []
    id = server.invoke("talk", {"n": 1})[1]["x-weir-request-id"]
    lines, cursor = server.logs("talk")
    assert [(line["text"], line["requestId"], line["version"]) for line in lines] == [("out 1", id, 1), ("err 1", id, 1)]
    heard = []
    reader = threading.Thread(target=lambda: heard.append(server.logs("talk", cursor, waitMs=20000)))
    reader.start()
    server.send("talk", {"n": 2})
    reader.join(30)
    assert heard and heard[0][0][0]["text"] == "out 2", "a waiting reader hears of it"
    assert server.http("GET", "/v1/functions/nobody/logs")[0] == 404
    wait_until(lambda: server.logs("talk")[0][-1]["text"] == "err 2", 20, "all is logged")
    followed = server.cli("logs", "talk")
    assert followed.returncode == 0 and "out 1" in followed.stdout and "err 2" in followed.stdout


def test_metrics_tell_what_happened(server, collector):
    server.deploy("count", POISON, **FAST_RETRIES)
    good = server.send_async("count", [{"n": n, "currency": "EUR"} for n in range(10)])
    server.send("count", {"n": 10, "currency": "?"})
    server.wait_letters(1)
    collector.wait_for(good)
    wait_quiet(server, "count")
    metrics = server.metrics()
    told = {name: metrics.get(f'weir_{name}{{function="count"}}') for name in (
        "events_ok_total", "attempts_failed_total", "letters_due_total", "letters_dead_total", "run_seconds_count",
        "wait_seconds_count")}
    assert told == {"events_ok_total": 10, "attempts_failed_total": 4, "letters_due_total": 3, "letters_dead_total": 1,
                    "run_seconds_count": 14, "wait_seconds_count": 11}
    assert metrics['weir_events_accepted_total{function="count"}'] == 14, "11 events and 3 that came back from the letters"
    assert metrics['weir_http_requests_total{status="202"}'] == 2


def test_status_and_health(serve, backend):
    server = serve(backend=backend)
    assert server.http("GET", "/healthz")[0] == 200 and server.http("GET", "/readyz")[0] == 200
    server.deploy("seen", POISON, retries=0)
    server.send("seen", {"n": 1, "currency": "?"})
    server.wait_letters(1)
    status = server.status()
    assert status["ready"] is True and status["queue"]["up"] and status["store"]["up"]
    assert (status["queue"]["kind"], status["store"]["kind"]) == (("embedded", "sqlite") if backend.embedded else ("amqp", "postgresql"))
    wait_quiet(server, "seen")
    fn = server.function_status("seen")
    assert (fn["current"], fn["failed"], fn["dead"], fn["due"], fn["waiting"]) == (1, 1, 1, 0, 0)
    shown = server.cli("status", "--json")
    assert shown.returncode == 0 and json.loads(shown.stdout)["functions"][0]["name"] == "seen"
    assert server.stop() == 0


def test_the_command_line(server, collector, folder):
    (folder / "orders.py").write_text('from json import loads\ndef main_handler(event, context):\n    return {"EUR": 1}[event["currency"]]\n')
    done = server.cli("deploy", folder / "orders.py", "--retries", "1", "--backoff", "50ms")
    assert done.returncode == 0, done.stderr
    done = server.cli("invoke", "orders", "--data", '{"currency": "EUR"}')
    assert (done.returncode, done.stdout.strip()) == (0, "1")
    done = server.cli("invoke", "orders", "--data", '{"currency": "?"}')
    assert done.returncode == 1 and "KeyError" in done.stderr
    (folder / "lines").write_text('{"currency": "EUR"}\n{"currency": "?"}\n')
    done = server.cli("invoke", "orders", "--data", f"@{folder / 'lines'}", "--async", "--each-line")
    assert done.returncode == 0 and len(done.stdout.split()) == 2, done.stdout + done.stderr
    letter, = server.wait_letters(1)
    done = server.cli("dlq", "list", "--json")
    assert done.returncode == 0 and letter["id"] in done.stdout
    done = server.cli("dlq", "show", letter["id"])
    assert done.returncode == 0 and "KeyError" in done.stdout
    (folder / "orders.py").write_text("def main_handler(event, context):\n    return 0\n")
    assert server.cli("deploy", folder / "orders.py").returncode == 0
    done = server.cli("dlq", "replay", letter["id"])
    assert done.returncode == 0, done.stderr
    wait_until(lambda: server.letter(letter["id"])["state"] == "replayed", 10, "it is replayed")
    assert server.cli("fn", "list").stdout.splitlines()[1].split()[:3] == ["orders", "2", "python"]
    assert server.cli("invoke", "nobody").returncode == 1 and server.cli("nonsense").returncode == 2
    assert server.cli("fn", "delete", "orders").returncode == 0
