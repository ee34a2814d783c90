# SPDX-License-Identifier: Apache-2.0
"""The HTTP API of dead letters, over a real server and both stores: /v1/letters, /v1/groups, /v1/replays, /v1/policies.

Server.http holds requests and answers against schema/openapi.yaml. What is wrong or hostile is in test_dlq_api_bad_input.py.
"""
import base64
import json
import threading
import time

import openapi_check
import pytest
from dlq_api import FAILS, FUNCTION, MISSING, ask, bring, everything, ident, refused, whole
from server import FAST_RETRIES, Refused
from waiting import wait_until


@pytest.fixture
def server(serve, backend):
    return serve({"sandbox": "none"}, backend=backend)


def test_the_description_is_sound():
    openapi_check.check_spec()


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_pages(server):
    bring(server, [whole(n) for n in range(25)])
    for order, wanted in (("newest", [ident(n) for n in reversed(range(25))]), ("oldest", [ident(n) for n in range(25)])):
        found, cursor = [], {}
        while cursor is not None:
            page = ask(server, "GET", "/v1/letters", limit=10, order=order, **cursor)
            found += [letter["id"] for letter in page["letters"]]
            cursor = {"cursor": page["next"]} if page["next"] else None
        assert found == wanted
    page = ask(server, "GET", "/v1/letters", limit=25)
    assert ask(server, "GET", "/v1/letters", limit=25, cursor=page["next"]) == {"letters": [], "next": None}
    assert [letter["payload"] for letter in ask(server, "GET", "/v1/letters", limit=1, full="true")["letters"]] == ['{"n": 24}']
    assert ask(server, "GET", "/v1/letters", limit=1, count="true")["count"] == 25
    assert ask(server, "GET", "/v1/letters", limit=1, count="true", where="payload.n < 3", cursor=page["next"]) == {"letters": [], "next": None, "count": 3}


def test_selections(server):
    bring(server, [whole(0), whole(1, errorType="TypeError", orderingKey="k1"),
                   whole(2, function="bills", headers=[["X-Tenant", "acme"]]),
                   whole(3, source={"kind": "kafka", "name": "t1", "at": '{"topic":"orders","partition":3,"offset":7}'},
                         errorMessage="Timeout after 30s")])
    group = ask(server, "GET", "/v1/letters/" + ident(0))["group"]
    now = ask(server, "GET", "/v1/letters/" + ident(0))["diedMs"]
    for query, wanted in (({}, {0, 1, 2, 3}), ({"function": "bills"}, {2}), ({"error": "TypeError"}, {1}), ({"group": group}, {0}),
                          ({"source": "kafka:orders/3"}, {3}), ({"source": "kafka:orders/4"}, set()), ({"state": "due"}, set()),
                          ({"search": "timeout AFTER"}, {3}), ({"where": "payload.n >= 1 and payload.n < 3"}, {1, 2}),
                          ({"where": 'headers.x-tenant = "acme"'}, {2}), ({"where": 'key = "k1"', "function": "bills"}, set()),
                          ({"untilMs": 1760000000000}, set()), ({"sinceMs": now + 3600000}, set()),
                          ({"sinceMs": 1760000000000}, {0, 1, 2, 3})):
        found = {letter["id"] for letter in ask(server, "GET", "/v1/letters", **query)["letters"]}
        assert found == {ident(n) for n in wanted}, query


def test_a_letter_tells_its_whole_life(server, collector):
    server.deploy(FUNCTION, FAILS, retries=1, **FAST_RETRIES)
    id = server.send(FUNCTION, {"customer": "acme"}, {"X-Weir-Header-X-Tenant": "t1", "Content-Type": "application/json"})
    server.wait_letters(1)
    edit = {"ids": [id], "set": {"payload.ok": True}, "unset": ["headers.x-tenant"], "why": "WEB-311"}
    shown = ask(server, "POST", "/v1/letters/edit", {**edit, "dryRun": True})
    assert shown["edited"] == 1 and not ask(server, "GET", f"/v1/letters/{id}")["edited"]
    assert ask(server, "POST", "/v1/letters/edit", edit)["letters"] == shown["letters"]
    tried = ask(server, "POST", "/v1/letters/try", {"ids": [id]})
    assert (tried["passed"], tried["results"][0]["verdict"], tried["results"][0]["result"]) == (1, "passes", '"fine"')
    job = server.replay(outcomes=True, ids=[id])
    letter = ask(server, "GET", f"/v1/letters/{id}")
    assert [letter["state"], letter["attempts"], len(letter["history"])] == ["replayed", 2, 2]
    assert letter["payload"] == '{"customer": "acme","ok":true}' and letter["headers"] == []
    assert letter["original"] == {"payload": '{"customer": "acme"}', "headers": [["X-Tenant", "t1"]]}
    assert [(e["revision"], e["why"], [o["op"] for o in e["patch"]]) for e in letter["edits"]] == [(1, "WEB-311", ["add", "remove"])]
    assert [(r["replay"], r["state"], r["outcome"]) for r in letter["replays"]] == [(job["replay"], "sent", "ok")]
    assert letter["replayId"] == letter["replays"][0]["eventId"]
    collector.wait_for([letter["replayId"]])
    assert ask(server, "POST", "/v1/letters/restore", {"ids": [id], "why": "again"})["restored"] == 1
    assert ask(server, "GET", f"/v1/letters/{id}")["why"] == "again"


def test_vendors_letters(server):
    record = {"kind": "kafka", "name": "t1", "at": '{"topic":"o","partition":0,"offset":1}'}
    bring(server, [whole(0), whole(1, payload="no JSON", source=record),
                   {"id": ident(2), "function": FUNCTION, "payloadBase64": base64.b64encode(b"\xff\x00").decode()}])
    scf = ask(server, "GET", "/v1/letters", **{"as": "scf"}, order="oldest")["letters"]
    assert [letter["RequestId"] for letter in scf] == [ident(0), ident(1), ident(2)]
    records = ask(server, "GET", "/v1/letters", **{"as": "lambda"}, order="oldest")["letters"]
    assert [record["requestContext"]["requestId"] for record in records] == [ident(0), ident(1), ident(2)]
    assert records[0]["requestPayload"] == {"n": 0}
    assert "sqs" in refused(server, "GET", "/v1/letters", **{"as": "sqs"})


# ---- changing --------------------------------------------------------------------------------------------------------


def test_discard_restore_retry_purge(server):
    server.deploy(FUNCTION, FAILS, retries=1, backoffMs=[3600000])
    bring(server, [whole(n) for n in range(12)])
    due = server.send(FUNCTION, {})
    server.wait_letters(1, state="due")
    answer = ask(server, "POST", "/v1/letters/discard", {"function": FUNCTION, "limit": 5, "why": "cancelled"})
    assert answer == {"discarded": 5, "more": True, "next": answer["next"], "refused": []}
    answer = ask(server, "POST", "/v1/letters/discard", {"where": "payload.n < 6", "limit": 5, "cursor": answer["next"]})
    assert answer == {"discarded": 1, "more": False, "next": None, "refused": []}
    answer = ask(server, "POST", "/v1/letters/discard", {"ids": [ident(0), MISSING, ident(6)]})
    assert answer["discarded"] == 1
    assert {(one["id"], one["state"]) for one in answer["refused"]} == {(ident(0), "discarded"), (MISSING, "missing")}
    found = ask(server, "GET", "/v1/letters", state="discarded", where='why = "cancelled"', limit=100)["letters"]
    assert len(found) == 5 and {one["why"] for one in found} == {"cancelled"}
    assert ask(server, "POST", "/v1/letters/restore", {"ids": [ident(0)]})["restored"] == 1
    assert ask(server, "POST", "/v1/letters/restore", {"all": True})["restored"] == 6
    assert ask(server, "POST", "/v1/letters/edit", {"state": "due", "set": {"payload.customer": "acme"}})["edited"] == 1
    assert ask(server, "POST", "/v1/letters/retry", {"all": True}) == {"retried": 1, "more": False, "next": None, "refused": []}
    server.wait_letters(13)
    assert ask(server, "GET", f"/v1/letters/{due}")["errorMessage"] == "'acme'"
    assert ask(server, "POST", "/v1/letters/discard", {"ids": [ident(1)]})["discarded"] == 1
    for body in ({"olderThanMs": 3600000}, {"olderThanMs": 0, "untilMs": 1760000000000}, {"olderThanMs": 0, "function": "bills"}):
        assert ask(server, "POST", "/v1/letters/purge", body)["purged"] == 0, body
    assert ask(server, "POST", "/v1/letters/purge", {"olderThanMs": 0})["purged"] == 1
    assert ask(server, "POST", "/v1/letters/purge", {"olderThanMs": 0, "dead": True, "where": "payload.n = 2"})["purged"] == 1
    assert refused(server, "GET", "/v1/letters/" + ident(2), status=404)
    assert len(server.letters()) == 11


def test_edits_page_by_page(server):
    bring(server, [whole(n, payload=f'{{"n":{n},"odd":{json.dumps(n % 2 == 1)}}}') for n in range(250)])
    body, edited, more = {"all": True, "set": {"payload.odd": False}, "why": "all even"}, 0, True
    while more:
        answer = ask(server, "POST", "/v1/letters/edit", body)
        edited, more = edited + answer["edited"], answer["more"]
        assert len(answer["letters"]) <= 100 and not answer["refused"]
        body["cursor"] = answer["next"]
    assert edited == 125
    assert ask(server, "GET", "/v1/letters", where="payload.odd = true")["letters"] == []


HUGE = ("123456789012345678901234567890", "1e400", "9223372036854775808")
NUMBERS = (*HUGE, "-0.000000000000000000000000000000000001", "1.50", "1E+2")


def test_numbers_and_texts_stay_as_they_are_written(server):
    before = '{ "n" : 1.10,  "big":98765432109876543210 }'
    bring(server, [whole(0, payload=before)])
    for revision, number in enumerate(NUMBERS, 1):
        body = f'{{"ids":["{ident(0)}"],"set":{{"payload.n":{number}}},"why":"as written"}}'
        answer = ask(server, "POST", "/v1/letters/edit", body.encode())
        assert (answer["edited"], answer["letters"][0]["revision"]) == (1, revision)
        assert number not in HUGE or number in answer["letters"][0]["patch"], "as text: no parser changes it"
        assert ask(server, "GET", "/v1/letters/" + ident(0))["payload"] == before.replace("1.10", number)
        again = ask(server, "POST", "/v1/letters/edit", body.encode())
        assert (again["edited"], again["unchanged"]) == (0, 1)
    patch = b'[{"op":"test","path":"/payload/n","value":100},{"op":"replace","path":"/payload","value":[1e999,"\\u0000"]}]'
    assert ask(server, "POST", "/v1/letters/edit", b'{"all":true,"patch":' + patch + b"}")["edited"] == 1
    letter = ask(server, "GET", "/v1/letters/" + ident(0))
    assert letter["payload"] == '[1e999,"\\u0000"]' and letter["original"]["payload"] == before
    assert len(letter["edits"]) == len(NUMBERS) + 1


def test_edits_that_do_not_fit_are_refused(server):
    bring(server, [whole(0), whole(1, payload='{"total":5}')])
    removal = {"patch": [{"op": "remove", "path": "/payload/total"}]}
    answer = ask(server, "POST", "/v1/letters/edit", {"all": True, **removal, "dryRun": True})
    assert answer["edited"] == 1 and [one["id"] for one in answer["refused"]] == [ident(0)]
    answer = ask(server, "POST", "/v1/letters/edit", {"all": True, "unset": ["payload.total", "headers.none"]})
    assert (answer["edited"], answer["unchanged"], answer["refused"]) == (1, 1, [])
    test = {"patch": [{"op": "test", "path": "/payload/n", "value": 7}]}
    for edit, why in ((test, "test"), ({"set": {"headers.x": 5}}, "headers.x")):
        answer = ask(server, "POST", "/v1/letters/edit", {"ids": [ident(0)], **edit})
        assert answer["edited"] == 0 and why in answer["refused"][0]["why"]
    many = {f"payload.k{n}": 1 for n in range(1001)}
    assert "1000" in refused(server, "POST", "/v1/letters/edit", {"ids": [ident(0)], "set": many}, 413)
    assert ask(server, "POST", "/v1/letters/discard", {"ids": [ident(0)]})["discarded"] == 1
    answer = ask(server, "POST", "/v1/letters/edit", {"ids": [ident(0), MISSING], "set": {"payload.n": 1}})
    assert {(one["id"], one["why"]) for one in answer["refused"]} == {(ident(0), "it is discarded"), (MISSING, "there is no such letter")}


PAYLOADS = {
    "text": "Grüße 🎉".encode(), "binary": bytes(range(256)), "invalid": b'{"a":"\xff"}', "nul": b"a\0b", "empty": b"",
    "deep": b"[" * 100 + b"]" * 100, "numbers": b'{"n":123456789012345678901234567890,"m":1e400,"n":0.10}',
    "large": b'{"x":"' + b"y" * 6291000 + b'"}', "large_binary": b"\xfe" * 6291000,
}


def payload_of(letter):
    return base64.b64decode(letter["payloadBase64"]) if "payloadBase64" in letter else letter["payload"].encode()


def test_payloads_come_out_as_they_came_in_and_an_export_brings_them_back(server):
    server.deploy(FUNCTION, "def main_handler(event, context): raise ValueError('no good')", retries=0)
    sent = {server.send(FUNCTION, payload): payload for payload in PAYLOADS.values()}
    server.wait_letters(len(sent))
    exported, pages = everything(server), []
    while not pages or pages[-1]["next"]:
        cursor = {"cursor": pages[-1]["next"]} if pages else {}
        pages.append(ask(server, "GET", "/v1/letters", full="true", **cursor))
    assert len(pages) > 1, "a page of whole letters has a cap"
    assert {id: payload_of(letter) for id, letter in exported.items()} == sent
    assert all(payload_of(ask(server, "GET", f"/v1/letters/{id}")) == payload for id, payload in sent.items())
    assert ask(server, "POST", "/v1/letters/purge", {"olderThanMs": 0, "dead": True})["purged"] == len(sent)
    for page in pages:
        assert ask(server, "POST", "/v1/letters/import", page) == {"imported": len(page["letters"]), "there": 0, "refused": []}
        assert ask(server, "POST", "/v1/letters/import", page) == {"imported": 0, "there": len(page["letters"]), "refused": []}, "twice is once"
    kept = ("id", "function", "payload", "payloadBase64", "headers", "history", "group", "attempts", "errorType", "errorMessage", "source",
            "orderingKey", "contentType", "acceptedMs", "diedMs", "version")
    back = everything(server)
    assert back.keys() == exported.keys()
    assert [(id, name) for id in back for name in kept if back[id].get(name) != exported[id].get(name)] == []


def test_imports_say_line_and_reason(server):
    bring(server, [whole(0)])
    before = everything(server)
    wrong = [{}, 7, whole(1, id="x"), whole(2, function="../x"), whole(3, payload=5), whole(4, headers=[["a"]]),
             whole(5, payload=None, payloadBase64="%%"), whole(6, redacted=True), whole(7, headers=[["a", "b"]] * 2000), whole(8, attempts=-1), whole(9, attempts="x"), whole(10, diedMs=1 << 52),
             whole(11, version=1 << 32), whole(12, orderingKey={"base64": "?"}), whole(13, source=7), whole(14, kind="?"), whole(15, originId="x")]
    answer = ask(server, "POST", "/v1/letters/import", {"letters": wrong})
    assert answer["imported"] == 0 and [one["line"] for one in answer["refused"]] == list(range(1, len(wrong) + 1))
    assert "masked" in answer["refused"][7]["why"] and "attempts" in answer["refused"][9]["why"]
    assert everything(server) == before
    assert "at most 1000" in refused(server, "POST", "/v1/letters/import", {"letters": [whole(n) for n in range(1001)]})
    odd = [whole(1, attempts=None, version=None, source=None, errorType=None, shape=3, originId=None, future=[1])]
    bring(server, odd)
    assert ask(server, "GET", "/v1/letters/" + ident(1))["state"] == "dead"


# ---- groups and policies ---------------------------------------------------------------------------------------------


def test_groups(server):
    bring(server, [whole(n) for n in range(3)] + [whole(3, errorType="TypeError"), whole(4, function="bills")])
    listed = ask(server, "GET", "/v1/groups")
    assert [group["count"] for group in listed["groups"]] == [3, 1, 1] and (listed["letters"], listed["more"]) == (5, False)
    assert ask(server, "GET", "/v1/groups", limit=1)["more"] is True
    assert [group["functions"] for group in ask(server, "GET", "/v1/groups", function="bills")["groups"]] == [["bills"]]
    assert ask(server, "GET", "/v1/groups", sinceMs=1 << 50)["groups"] == []
    first, other = listed["groups"][0]["group"], listed["groups"][1]["group"]
    assert ask(server, "PATCH", f"/v1/groups/{first}", {"name": "no-total", "note": "WEB-311"})["name"] == "no-total"
    assert ask(server, "PATCH", "/v1/groups/no-total", {"muted": True})["note"] == "WEB-311"
    assert ask(server, "GET", "/v1/groups/no-total")["group"] == first
    assert [len(ask(server, "GET", "/v1/groups", muted=muted)["groups"]) for muted in ("false", "true")] == [2, 3]
    assert len(ask(server, "GET", "/v1/letters", group="no-total")["letters"]) == 3
    assert "no-total" in refused(server, "PATCH", f"/v1/groups/{other}", {"name": "no-total"}, 409)
    for body in ({"name": "a b"}, {"name": first}, {"name": "x" * 101}, {"name": 5}, {"note": 5}, {"muted": "yes"}, {"color": "red"}):
        refused(server, "PATCH", f"/v1/groups/{other}", body)
    refused(server, "PATCH", f"/v1/groups/{other}", {"note": "x" * 4097}, 413)
    assert ask(server, "GET", f"/v1/groups/{other}")["name"] == ""
    assert ask(server, "POST", "/v1/letters/discard", {"group": "no-total"})["discarded"] == 3
    assert ask(server, "GET", "/v1/groups/no-total")["count"] == 0
    for which in ("0123456789abcdef", "nobody", "x" * 200, "%00", "no-total%00x", "%27%20OR%201=1"):
        refused(server, "GET", f"/v1/groups/{which}", status=404)
        refused(server, "PATCH", f"/v1/groups/{which}", {"note": "x"}, 404)


def test_policies(server):
    server.deploy(FUNCTION, FAILS)
    refused(server, "GET", f"/v1/policies/{FUNCTION}", status=404)
    replay = {"sample": 50, "rate": 100, "abortShare": 0.02}
    made = ask(server, "PUT", f"/v1/policies/{FUNCTION}", {"keepMs": 86400000, "autoReplay": replay})
    assert (made["keepMs"], made["cap"], made["usedShare"]) == (86400000, None, None)
    made = ask(server, "PUT", f"/v1/policies/{FUNCTION}", {"cap": 10, "keepMs": None})
    assert (made["keepMs"], made["cap"], made["autoReplay"]["sample"], made["usedShare"]) == (None, 10, 50, 0)
    for body in ({"keepMs": 1}, {"keepMs": "30d"}, {"cap": 0}, {"cap": 1.5}, {"cap": -1}, {"autoReplay": 5},
                 {"autoReplay": {"smaple": 5}}, {"autoReplay": {"abortShare": 2}}, {"autoReplay": {"rate": 0}}, {"keep": 5}):
        refused(server, "PUT", f"/v1/policies/{FUNCTION}", body)
    assert ask(server, "GET", f"/v1/policies/{FUNCTION}") == made and ask(server, "GET", "/v1/policies") == {"policies": [made]}
    assert ask(server, "DELETE", f"/v1/policies/{FUNCTION}") == {"removed": True}
    for method, body in (("GET", None), ("DELETE", None)):
        refused(server, method, f"/v1/policies/{FUNCTION}", body, 404)
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"cap": 5})):
        refused(server, method, "/v1/policies/nobody", body, 404)


# ---- replays ---------------------------------------------------------------------------------------------------------


def test_a_replay_is_paused_resumed_cancelled(server):
    server.deploy(FUNCTION, FAILS, retries=0)
    bring(server, [whole(n, payload='{"ok":1}') for n in range(20)])
    made = server.start_replay(function=FUNCTION, rate=0.001)
    path = f"/v1/replays/{made['replay']}"
    assert (made["state"], made["total"], made["refused"]) == ("running", 20, [])
    for state in ("pause", "pause"):
        assert ask(server, "POST", f"{path}/{state}")["state"] == "paused"
    assert [job["replay"] for job in ask(server, "GET", "/v1/replays", open="true")["replays"]] == [made["replay"]]
    assert ask(server, "POST", f"{path}/resume")["state"] == "running"
    ended = ask(server, "POST", f"{path}/cancel")
    assert (ended["state"], ended["endedMs"] is not None) == ("cancelled", True)
    for change in ("pause", "resume", "cancel"):
        assert "cancelled" in refused(server, "POST", f"{path}/{change}", status=409)
    wait_until(lambda: not server.letters(state="replaying"), what="nothing is under way")
    assert len(server.letters()) + len(server.letters(state="replayed")) == 20, "a cancel keeps every letter"
    assert ask(server, "GET", "/v1/replays", open="true") == {"replays": [], "next": None}
    assert server.replay(outcomes=True, function=FUNCTION)["state"] == "done"
    assert "done" in refused(server, "POST", "/v1/replays/2/cancel", status=409)


def test_replays_page_by_page(server):
    server.deploy(FUNCTION, FAILS, retries=0)
    bring(server, [whole(n, payload='{"ok":1}') for n in range(8)])
    jobs = [server.replay(outcomes=True, ids=[ident(n), ident(7)])["replay"] for n in range(3)]
    first = ask(server, "GET", "/v1/replays", limit=2)
    assert [job["replay"] for job in first["replays"]] == jobs[:0:-1]
    assert [job["replay"] for job in ask(server, "GET", "/v1/replays", limit=2, cursor=first["next"])["replays"]] == jobs[:1]
    server.replay(outcomes=True, function=FUNCTION)
    path = f"/v1/replays/{jobs[-1] + 1}/letters"
    page = ask(server, "GET", path, limit=3)
    rest = ask(server, "GET", path, limit=3, cursor=page["next"])
    assert [one["id"] for one in page["letters"] + rest["letters"]] == [ident(n) for n in (3, 4, 5, 6)] and rest["next"] is None
    assert len(ask(server, "GET", path, state="ok")["letters"]) == 4 and ask(server, "GET", path, state="failed")["letters"] == []


def test_replays_of_what_is_not_dead(server):
    server.deploy(FUNCTION, FAILS, retries=0)
    bring(server, [whole(0, payload='{"ok":1}'), whole(1, payload='{"ok":1}')])
    ask(server, "POST", "/v1/letters/discard", {"ids": [ident(0)]})
    assert "it is discarded" in refused(server, "POST", "/v1/replays", {"ids": [ident(0)]}, 409)
    assert refused(server, "POST", "/v1/replays", {"ids": [ident(0), MISSING]}, 409)
    assert refused(server, "POST", "/v1/replays", {"function": "bills"}, 404)
    assert refused(server, "POST", "/v1/replays", {"ids": [ident(1)], "to": "nobody"}, 404)
    assert refused(server, "POST", "/v1/replays", {"ids": [ident(1)], "to": FUNCTION + ":9"}, 404)
    made = server.start_replay(ids=[ident(0), ident(1)])
    assert made["total"] == 1 and made["refused"] == [{"id": ident(0), "state": "discarded", "why": "it is discarded"}]
    server.wait_replay(made["replay"], outcomes=True)


def both(*calls):
    """Runs them at the same time; their results."""
    results, barrier = [None] * len(calls), threading.Barrier(len(calls))

    def run(at):
        barrier.wait(30)
        results[at] = calls[at]()
    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def edit_and_replay(one, other, collector, id):
    """Whichever comes first, what runs is what the letter holds, and an edit that came too late says so."""
    edit, job = both(lambda: ask(one, "POST", "/v1/letters/edit", {"ids": [id], "set": {"payload.edited": True}}),
                     lambda: other.replay(ids=[id], outcomes=True))
    assert (job["sent"], job["ok"]) == (1, 1)
    letter = ask(one, "GET", f"/v1/letters/{id}")
    wanted = {"ok": 1, "edited": True} if edit["edited"] else {"ok": 1}
    ran = collector.about(letter["replayId"])
    assert json.loads(letter["payload"]) == wanted and [json.loads(words[1]) for words in ran] == [wanted]
    if not edit["edited"]:
        assert edit["refused"][0]["why"] in ("it is replayed", f"it is being sent back right now by replay {job['replay']}")


def edit_twice(one, other, id):
    edits = both(*[lambda on=on, name=name: ask(on, "POST", "/v1/letters/edit", {"ids": [id], "set": {name: 1}})
                   for on, name in ((one, "payload.a"), (other, "payload.b"))])
    assert [edit["edited"] for edit in edits] == [1, 1]
    letter = ask(one, "GET", f"/v1/letters/{id}")
    assert json.loads(letter["payload"]) == {"ok": 1, "a": 1, "b": 1}, "neither edit is lost"
    assert [edit["revision"] for edit in letter["edits"]] == [1, 2]


def replay_twice(one, other, collector, id):
    answers = both(*[lambda on=on: on.http("POST", "/v1/replays", {"ids": [id]}) for on in (one, other)])
    assert {status for status, _, _ in answers} in ({201}, {201, 409})
    jobs = [one.wait_replay(body["replay"], outcomes=True) for status, _, body in answers if status == 201]
    assert sum(job["sent"] for job in jobs) == 1, jobs
    told = [one.replay_letters(job["replay"])[0] for job in jobs if not job["sent"]]
    assert all(letter["state"] == "skipped" and letter["why"] for letter in told)
    assert len(collector.about(ask(one, "GET", f"/v1/letters/{id}")["replayId"])) == 1


def test_of_two_who_change_one_letter_one_wins_and_the_other_is_told(serve, backend, collector):
    """Two nodes where the store can have them."""
    one = serve({"sandbox": "none"}, backend=backend)
    other = one if backend.embedded else serve({"sandbox": "none"}, backend=backend)
    one.deploy(FUNCTION, FAILS, retries=0)
    wait_until(lambda: other.http("GET", f"/v1/functions/{FUNCTION}")[0] == 200, what="the other node knows the function")
    bring(one, [whole(n, payload='{"ok":1}') for n in range(60)])
    for n in range(0, 60, 3):
        edit_and_replay(one, other, collector, ident(n))
        edit_twice(one, other, ident(n + 1))
        replay_twice(one, other, collector, ident(n + 2))


def test_a_version_that_another_node_just_made_is_known(serve, database):
    """No time to wait for: the other node looks at the store only once a second."""
    one, other = (serve({"sandbox": "none", "store": database}) for _ in range(2))
    one.deploy(FUNCTION, FAILS, retries=0)
    bring(one, [whole(0)])
    due_ms = time.time_ns() // 1000000 + 3600000
    for version in range(2, 8):
        assert one.deploy(FUNCTION, f"{FAILS}    # {version}\n", retries=0) == version
        if version % 2:
            id = other.send(f"{FUNCTION}:{version}", {}, runAt=due_ms)
            assert other.letter(id)["state"] == "due"
        else:
            tried = ask(other, "POST", "/v1/letters/try", {"ids": [ident(0)], "to": f"{FUNCTION}:{version}"})
            assert [(result["version"], result["outcome"]) for result in tried["results"]] == [(version, "error")]
    with pytest.raises(Refused, match="404"):
        other.send(f"{FUNCTION}:99", {}, runAt=due_ms)
    refused(other, "POST", "/v1/letters/try", {"ids": [ident(0)], "to": f"{FUNCTION}:99"}, status=404)
