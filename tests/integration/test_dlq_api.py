# SPDX-License-Identifier: Apache-2.0
"""The HTTP API of dead letters, over a real server and both stores: /v1/letters, /v1/groups, /v1/replays, /v1/policies.

Each call's good case, its bad input, and hostile input. Server.http holds requests and answers against schema/openapi.yaml.
"""
import base64
import json
import threading
import urllib.parse

import openapi_check
import pytest
from server import FAST_RETRIES
from waiting import wait_until

FUNCTION = "orders"
FAILS = """
    import json
    from collect import tell
    def main_handler(event, context):
        if not event.get("ok"): raise KeyError(event.get("customer"))
        tell(context["request_id"], json.dumps(event, sort_keys=True).replace(" ", ""))
        return "fine"
"""
MISSING = "0192f3c4-0000-7000-8000-ffffffffffff"
AREAS = {"letters", "groups", "replays", "policies"}


def ident(n):
    return f"0192f3c4-0000-7000-8000-{n:012x}"


def whole(n, **more):
    """A letter as a listing with full=true gives it."""
    return {"id": ident(n), "function": FUNCTION, "payload": json.dumps({"n": n}), "errorType": "KeyError", "errorMessage": "no total",
            "acceptedMs": 1760000000000 + n, **more}


def ask(server, method, path, body=None, status=200, **query):
    path += "?" + urllib.parse.urlencode(query) if query else ""
    got, _, answer = server.http(method, path, body)
    assert got == status, f"{method} {path} {str(body)[:300]}: {got} {answer}"
    return answer


def refused(server, method, path, body=None, status=400, **query):
    """What the answer says is wrong."""
    return ask(server, method, path, body, status, **query)["message"]


def bring(server, letters):
    answer = ask(server, "POST", "/v1/letters/import", {"letters": letters})
    assert answer == {"imported": len(letters), "refused": []}


def everything(server):
    """All letters whole, by id."""
    found = {}
    for state in ("due", "dead", "replaying", "replayed", "discarded"):
        cursor = {}
        while cursor is not None:
            page = ask(server, "GET", "/v1/letters", state=state, full="true", limit=1000, **cursor)
            found.update({letter["id"]: letter for letter in page["letters"]})
            cursor = {"cursor": page["next"]} if page["next"] else None
    return found


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


def test_selections(server):
    bring(server, [whole(0), whole(1, errorType="TypeError", orderingKey="k1"), whole(2, function="bills", headers=[["X-Tenant", "acme"]]),
                   whole(3, source={"kind": "kafka", "name": "t1", "at": '{"topic":"orders","partition":3,"offset":7}'},
                         errorMessage="Timeout after 30s")])
    group = ask(server, "GET", "/v1/letters/" + ident(0))["group"]
    now = ask(server, "GET", "/v1/letters/" + ident(0))["diedMs"]
    for query, wanted in (({}, {0, 1, 2, 3}), ({"function": "bills"}, {2}), ({"error": "TypeError"}, {1}), ({"group": group}, {0}),
                          ({"source": "kafka:orders/3"}, {3}), ({"source": "kafka:orders/4"}, set()), ({"state": "due"}, set()),
                          ({"search": "timeout AFTER"}, {3}), ({"where": "payload.n >= 1 and payload.n < 3"}, {1, 2}),
                          ({"where": 'headers.x-tenant = "acme"'}, {2}), ({"where": 'key = "k1"', "function": "bills"}, set()),
                          ({"untilMs": 1760000000000}, set()), ({"sinceMs": now + 3600000}, set()), ({"sinceMs": 1760000000000}, {0, 1, 2, 3})):
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
    bring(server, [whole(0), whole(1, payload="no JSON", source={"kind": "kafka", "name": "t1", "at": '{"topic":"o","partition":0,"offset":1}'}),
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
    assert answer == {"discarded": 5, "more": True, "refused": []}
    assert ask(server, "POST", "/v1/letters/discard", {"where": "payload.n < 6", "limit": 5}) == {"discarded": 1, "more": False, "refused": []}
    answer = ask(server, "POST", "/v1/letters/discard", {"ids": [ident(0), MISSING, ident(6)]})
    assert answer["discarded"] == 1
    assert {(one["id"], one["state"]) for one in answer["refused"]} == {(ident(0), "discarded"), (MISSING, "missing")}
    assert ask(server, "POST", "/v1/letters/restore", {"ids": [ident(0)]})["restored"] == 1
    assert ask(server, "POST", "/v1/letters/restore", {"all": True})["restored"] == 6
    assert ask(server, "POST", "/v1/letters/edit", {"state": "due", "set": {"payload.customer": "acme"}, "why": "due ones too"})["edited"] == 1
    assert ask(server, "POST", "/v1/letters/retry", {"all": True}) == {"retried": 1, "more": False, "refused": []}
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


NUMBERS = ("123456789012345678901234567890", "1e400", "-0.000000000000000000000000000000000001", "1.50", "9223372036854775808", "1E+2")


def test_numbers_and_texts_stay_as_they_are_written(server):
    before = '{ "n" : 1.10,  "big":98765432109876543210 }'
    bring(server, [whole(0, payload=before)])
    for revision, number in enumerate(NUMBERS, 1):
        body = f'{{"ids":["{ident(0)}"],"set":{{"payload.n":{number}}},"why":"as written"}}'
        answer = ask(server, "POST", "/v1/letters/edit", body.encode())
        assert (answer["edited"], answer["letters"][0]["revision"]) == (1, revision)
        assert ask(server, "GET", "/v1/letters/" + ident(0))["payload"] == before.replace("1.10", number)
        again = ask(server, "POST", "/v1/letters/edit", body.encode())
        assert (again["edited"], again["unchanged"]) == (0, 1)
    patch = b'{"all":true,"patch":[{"op":"test","path":"/payload/n","value":100},{"op":"replace","path":"/payload","value":[1e999,"\\u0000"]}]}'
    assert ask(server, "POST", "/v1/letters/edit", patch)["edited"] == 1
    letter = ask(server, "GET", "/v1/letters/" + ident(0))
    assert letter["payload"] == '[1e999,"\\u0000"]' and letter["original"]["payload"] == before
    assert len(letter["edits"]) == len(NUMBERS) + 1


def test_edits_that_do_not_fit_are_refused(server):
    bring(server, [whole(0), whole(1, payload='{"total":5}')])
    answer = ask(server, "POST", "/v1/letters/edit", {"all": True, "unset": ["payload.total"]})
    assert answer["edited"] == 1 and [one["id"] for one in answer["refused"]] == [ident(0)]
    for edit, why in (({"patch": [{"op": "test", "path": "/payload/n", "value": 7}]}, "test"), ({"set": {"headers.x": 5}}, "headers.x")):
        answer = ask(server, "POST", "/v1/letters/edit", {"ids": [ident(0)], **edit})
        assert answer["edited"] == 0 and why in answer["refused"][0]["why"]
    many = {f"payload.k{n}": 1 for n in range(1001)}
    assert "1000" in refused(server, "POST", "/v1/letters/edit", {"ids": [ident(0)], "set": many}, 413)
    assert ask(server, "POST", "/v1/letters/discard", {"ids": [ident(0)]})["discarded"] == 1
    answer = ask(server, "POST", "/v1/letters/edit", {"ids": [ident(0), MISSING], "set": {"payload.n": 1}})
    assert {(one["id"], one["why"]) for one in answer["refused"]} == {(ident(0), "it is discarded"), (MISSING, "there is no such letter")}


PAYLOADS = {
    "text": "Grüße 🎉".encode(), "binary": bytes(range(256)), "invalid": b'{"a":"\xff"}', "nul": b"a\0b", "empty": b"",
    "deep": b"[" * 100 + b"]" * 100, "numbers": b'{"n":123456789012345678901234567890,"m":1e400,"n":0.10}', "large": b'{"x":"' + b"y" * 6291000 + b'"}',
    "large_binary": b"\xfe" * 6291000,
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
        assert ask(server, "POST", "/v1/letters/import", page) == {"imported": len(page["letters"]), "refused": []}
    kept = ("id", "function", "payload", "payloadBase64", "headers", "history", "group", "attempts", "errorType", "errorMessage", "source",
            "orderingKey", "contentType", "acceptedMs")
    back = everything(server)
    assert back.keys() == exported.keys()
    assert [(id, name) for id in back for name in kept if back[id].get(name) != exported[id].get(name)] == []


def test_imports_say_line_and_reason(server):
    bring(server, [whole(0)])
    before = everything(server)
    wrong = [whole(0), {}, 7, whole(1, id="x"), whole(2, function="../x"), whole(3, payload=5), whole(4, headers=[["a"]]),
             whole(5, payload=None, payloadBase64="%%"), whole(6, redacted=True), whole(7, headers=[["a", "b"]] * 2000)]
    answer = ask(server, "POST", "/v1/letters/import", {"letters": wrong})
    assert answer["imported"] == 0 and [one["line"] for one in answer["refused"]] == list(range(1, len(wrong) + 1))
    assert "there already" in answer["refused"][0]["why"] and "masked" in answer["refused"][8]["why"]
    assert everything(server) == before
    assert "at most 1000" in refused(server, "POST", "/v1/letters/import", {"letters": [whole(n) for n in range(1001)]})
    odd = [whole(1, attempts="x", version=[], source=7, kind="?", errorType=None, shape=3, originId="x")]
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
    assert len(ask(server, "GET", "/v1/groups")["groups"]) == 2 and len(ask(server, "GET", "/v1/groups", muted="true")["groups"]) == 3
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
    made = ask(server, "PUT", f"/v1/policies/{FUNCTION}", {"keepMs": 86400000, "autoReplay": {"sample": 50, "rate": 100, "abortShare": 0.02}})
    assert (made["keepMs"], made["cap"], made["usedShare"]) == (86400000, None, None)
    made = ask(server, "PUT", f"/v1/policies/{FUNCTION}", {"cap": 10, "keepMs": None})
    assert (made["keepMs"], made["cap"], made["autoReplay"]["sample"], made["usedShare"]) == (None, 10, 50, 0)
    for body in ({"keepMs": 1}, {"keepMs": "30d"}, {"cap": 0}, {"cap": 1.5}, {"cap": -1}, {"autoReplay": 5}, {"autoReplay": {"smaple": 5}},
                 {"autoReplay": {"abortShare": 2}}, {"autoReplay": {"rate": 0}}, {"keep": 5}):
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


def test_of_two_who_change_one_letter_one_wins_and_the_other_is_told(server, collector):
    server.deploy(FUNCTION, FAILS, retries=0)
    bring(server, [whole(n, payload='{"ok":1}') for n in range(60)])
    for n in range(0, 60, 3):
        edit, replay = both(lambda: ask(server, "POST", "/v1/letters/edit", {"ids": [ident(n)], "set": {"payload.edited": n}}),
                            lambda: server.replay(ids=[ident(n)], outcomes=True))
        assert (replay["sent"], replay["ok"]) == (1, 1)
        letter = ask(server, "GET", "/v1/letters/" + ident(n))
        ran = collector.about(letter["replayId"])
        if edit["edited"]:
            assert len(ran) == 1 and json.loads(ran[0][1]) == {"edited": n, "ok": 1} == json.loads(letter["payload"])
        else:
            assert edit["refused"][0]["why"] in ("it is replayed", f"it is being sent back right now by replay {replay['replay']}")
            assert len(ran) == 1 and json.loads(ran[0][1]) == {"ok": 1} == json.loads(letter["payload"])
        edits = both(*[lambda key=key: ask(server, "POST", "/v1/letters/edit", {"ids": [ident(n + 1)], "set": {"payload." + key: 1}})
                       for key in "ab"])
        assert [one["edited"] for one in edits] == [1, 1]
        assert json.loads(ask(server, "GET", "/v1/letters/" + ident(n + 1))["payload"]) == {"ok": 1, "a": 1, "b": 1}, "neither edit is lost"
        answers = both(*[lambda: server.http("POST", "/v1/replays", {"ids": [ident(n + 2)]})] * 2)
        assert 201 in (made := [status for status, _, _ in answers]) and set(made) <= {201, 409}
        jobs = [server.wait_replay(body["replay"], outcomes=True) for status, _, body in answers if status == 201]
        assert sum(job["sent"] for job in jobs) == 1, jobs
        for job in jobs:
            assert job["sent"] or server.replay_letters(job["replay"])[0]["state"] == "skipped" and server.replay_letters(job["replay"])[0]["why"]


# ---- bad input -------------------------------------------------------------------------------------------------------

CHANGES = ("discard", "restore", "retry", "edit", "try")
SELECTS = [f"/v1/letters/{name}" for name in CHANGES] + ["/v1/replays"]
EDIT = {"set": {"payload.n": 1}}


def more_for(path):
    return EDIT if path.endswith("/edit") else {}


BAD_QUERIES = [  # path, query, what the message says
    ("/v1/letters", "limit=0", "limit must be a whole number from 1 to 1000"), ("/v1/letters", "limit=1001", "limit"), ("/v1/letters", "limit=-1", "limit"),
    ("/v1/letters", "limit=ten", "limit"), ("/v1/letters", "limit=9999999999999999999", "limit"), ("/v1/letters", "cursor=x", "cursor"),
    ("/v1/letters", "cursor=" + MISSING + "0", "cursor"), ("/v1/letters", "order=up", "order"), ("/v1/letters", "full=yes", "full"),
    ("/v1/letters", "state=lost", "state"), ("/v1/letters", "sinceMs=yesterday", "sinceMs"), ("/v1/letters", "untilMs=-5", "untilMs"),
    ("/v1/letters", "where=attempt+%3E%3D", "column 11"), ("/v1/letters", "where=colour+%3D+1", "column 1"), ("/v1/letters", "where=%C3%BC+%3D", "column 1"),
    ("/v1/letters", "where=attempt+%3D+1+or", "column 15"), ("/v1/letters", "where=" + "(" * 40, "column 33"), ("/v1/letters", "where=%FF", "where: it is not UTF-8"),
    ("/v1/letters", "search=a%00b", "search: there is a NUL in it"), ("/v1/letters", "function=%FF", "function: it is not UTF-8"), ("/v1/letters", "as=sqs", "sqs"),
    ("/v1/groups", "limit=1001", "limit"), ("/v1/groups", "muted=maybe", "muted must be true or false"), ("/v1/groups", "sparkMs=1", "sparkMs"),
    ("/v1/groups", "sinceMs=x", "sinceMs"), ("/v1/replays", "limit=101", "limit"), ("/v1/replays", "cursor=0", "cursor"), ("/v1/replays", "open=1", "open"),
    ("/v1/replays/1/letters", "state=lost", "state"), ("/v1/replays/1/letters", "limit=1001", "limit"), ("/v1/replays/1/letters", "cursor=x", "cursor"),
]
BAD_SELECTIONS = [  # members, what the message says
    ({}, "say which letters"), ({"limit": 5}, "say which letters"), ({"all": False}, "say which letters"), ({"sinceMs": 0, "untilMs": 0}, "say which letters"),
    ({"function": ""}, "function is empty"), ({"where": " \n"}, "where is empty"), ({"all": True, "group": ""}, "group is empty"),
    ({"ids": []}, "ids must be a list of 1 to 1000 ids"), ({"ids": None}, "ids"), ({"ids": "x"}, "ids"), ({"ids": [5]}, "is not an id"), ({"ids": ["x"]}, "'x' is not an id"),
    ({"ids": [MISSING] * 1001}, "1 to 1000"), ({"ids": [MISSING], "all": True}, "not both"), ({"ids": [MISSING], "function": "f"}, "not both"), ({"all": 1}, "all must be"),
    ({"function": 5}, "function must be a string"), ({"error": None}, "error"), ({"group": []}, "group"), ({"state": {}}, "state"), ({"state": "lost"}, "state"),
    ({"source": 1}, "source"), ({"where": 1}, "where"), ({"search": True}, "search"), ({"sinceMs": "1"}, "sinceMs"), ({"untilMs": -1}, "untilMs"), ({"untilMs": 1.5}, "untilMs"),
    ({"where": "attempt = = 1"}, "column 11"), ({"where": "x" * 16385}, "16384"), ({"functoin": "orders"}, "unknown member 'functoin'"),
    ({"all": True, "limit": 0}, "limit"), ({"all": True, "limit": "5"}, "limit"), ({"all": True, "limit": 1e3}, "limit"),
]
BAD_BODIES = [(b"", "not JSON"), (b"{", "not JSON"), (b"[]", "object"), (b"null", "not JSON"), (b'{"all":true,"all":true}', "not JSON"), (b'{"all":tru}', "not JSON"),
              (b'{"function":"a\\u0000b"}', "JSON"), (b'{"function":"\xff"}', "not JSON"), (b'{"all":true}x', "not JSON"), (b"[" * 100000, "not JSON")]
BAD_CALLS = [  # path, members, what the message says
    ("/v1/letters/discard", {"all": True, "limit": 10001}, "limit"), ("/v1/letters/discard", {"all": True, "why": 5}, "why must be a string"),
    ("/v1/letters/purge", {}, "olderThanMs is needed"), ("/v1/letters/purge", {"olderThanMs": -1}, "olderThanMs"), ("/v1/letters/purge", {"olderThanMs": "30d"}, "olderThanMs"),
    ("/v1/letters/purge", {"olderThanMs": 0, "dead": "yes"}, "dead must be true or false"), ("/v1/letters/purge", {"olderThanMs": 0, "ids": [ident(0)]}, "'ids'"),
    ("/v1/letters/purge", {"olderThanMs": 0, "untilMs": "x"}, "untilMs"), ("/v1/letters/purge", {"olderThanMs": 0, "function": ""}, "function is empty"),
    ("/v1/letters/edit", {"all": True}, "set, unset or patch"), ("/v1/letters/edit", {"all": True, "set": []}, "set"), ("/v1/letters/edit", {"all": True, "set": {"": 1}}, "set"),
    ("/v1/letters/edit", {"all": True, "set": {"colour": 1}}, "colour"), ("/v1/letters/edit", {"all": True, "unset": "payload.n"}, "unset"),
    ("/v1/letters/edit", {"all": True, "patch": [{"op": "jump", "path": "/payload"}]}, "patch[0]"), ("/v1/letters/edit", {"all": True, **EDIT, "cursor": "x"}, "cursor"),
    ("/v1/letters/edit", {"all": True, **EDIT, "dryRun": 1}, "dryRun"),
    ("/v1/letters/try", {"all": True, "sample": 201}, "sample"), ("/v1/letters/try", {"all": True, "sample": 0}, "sample"), ("/v1/letters/try", {"all": True, "to": 5}, "to must be"),
    ("/v1/letters/import", {}, "letters must be a list"), ("/v1/letters/import", {"letters": {}}, "letters must be a list"), ("/v1/letters/import", {"letter": []}, "'letter'"),
    ("/v1/replays", {"all": True, "rate": -1}, "rate"), ("/v1/replays", {"all": True, "rate": "50/s"}, "rate"), ("/v1/replays", {"all": True, "rate": 1e9}, "rate"),
    ("/v1/replays", {"all": True, "rampMs": 5}, "ramp"), ("/v1/replays", {"all": True, "abortShare": 5}, "abortShare"), ("/v1/replays", {"all": True, "sample": -1}, "sample"),
    ("/v1/replays", {"all": True, "inOrder": "yes"}, "inOrder"), ("/v1/replays", {"all": True, "to": FUNCTION, "toOrigin": True}, "either to or toOrigin"),
    ("/v1/replays", {"all": True, "toOrigin": True, "sample": 5}, "sample"), ("/v1/replays", {"all": True, "limit": 10000001}, "limit"),
]
NOT_THERE = [("GET", "/v1/letters/" + MISSING), ("GET", "/v1/letters/x"), ("GET", "/v1/letters/%00"), ("GET", "/v1/letters/" + "9" * 300), ("GET", "/v1/replays/99"),
             ("GET", "/v1/replays/x"), ("GET", "/v1/replays/-1"), ("GET", "/v1/replays/" + "9" * 30), ("POST", "/v1/replays/99/pause"), ("POST", "/v1/replays/99/resume"),
             ("POST", "/v1/replays/99/cancel"), ("GET", "/v1/replays/x/letters"), ("GET", "/v1/groups/nobody"), ("GET", "/v1/policies/nobody"), ("GET", "/v1/letters/x/y")]
NOT_SO = [("POST", "/v1/letters"), ("DELETE", "/v1/letters/" + MISSING), ("PUT", "/v1/letters/discard"), ("DELETE", "/v1/groups/x"), ("POST", "/v1/groups"),
          ("DELETE", "/v1/replays/1"), ("GET", "/v1/replays/1/pause"), ("POST", "/v1/policies"), ("PATCH", "/v1/policies/orders")]


def test_bad_input_is_told_what_is_wrong_and_changes_nothing(server):
    server.deploy(FUNCTION, FAILS)
    bring(server, [whole(0), whole(1)])
    before, wrong = everything(server), []

    def check(method, path, body, status, said):
        got, _, answer = server.http(method, path, body)
        if got != status or (said or "") not in answer["message"]:
            wrong.append((method, path[:80], str(body)[:120], got, answer))
    for path, query, said in BAD_QUERIES:
        check("GET", f"{path}?{query}", None, 400, said)
    for path in SELECTS:
        for members, said in BAD_SELECTIONS:
            if not (path.endswith("/try") and "limit" in members):  # it has none
                check("POST", path, {**members, **more_for(path)}, 400, said)
        for body, said in BAD_BODIES:
            check("POST", path, body, 400, said)
    for path, members, said in BAD_CALLS:
        check("POST", path, members, 400, said)
    for method, path in NOT_THERE:
        check(method, path, None, 404, None)
    for method, path in NOT_SO:
        check(method, path, None, 405, None)
    assert not wrong, "\n".join(map(str, wrong))
    assert everything(server) == before


def test_a_token_is_needed(serve):
    server = serve({"sandbox": "none", "token": "s3cret"})
    bring(server, [whole(0)])
    before = everything(server)
    for path, item in openapi_check.spec()["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and AREAS & set(operation.get("tags", [])):
                path_ = path.replace("{id}", ident(0)).replace("{replay}", "1").replace("{name}", FUNCTION).replace("{group}", before[ident(0)]["group"])
                for token in ("", "Bearer ", "Bearer s3cre", "Bearer s3cret2"):
                    assert server.http(method.upper(), path_, b'{"all":true}', {"Authorization": token})[0] == 401, (method, path)
    assert everything(server) == before


def test_large_bodies(serve):
    server = serve({"sandbox": "none"})
    bring(server, [whole(0)])
    before = everything(server)
    room = 64 << 20
    for path in SELECTS + ["/v1/letters/import", "/v1/letters/purge"]:
        filler = b'{"ids":["' + b"x" * (room - 11) + b'"]'
        assert server.http("POST", path, filler[:room])[0] == 400, path
    edit = b'{"ids":["%s"],"set":{"payload.x":"%s"}}'
    answer = ask(server, "POST", "/v1/letters/edit", edit % (ident(0).encode(), b"y" * (room - 100)))
    assert answer["edited"] == 0 and answer["refused"][0]["id"] == ident(0), "a payload has at most 6 MiB"
    assert everything(server) == before
    for headers in ({"Content-Length": str(room + 1)}, {"Content-Length": str(1 << 62)}):
        assert server.http("POST", "/v1/letters/discard", b"{}", headers)[0] == 413


# ---- hostile input ---------------------------------------------------------------------------------------------------

HOSTILE = ["'", '"', "';DROP TABLE letters;--", "' OR '1'='1", "\\", "\\'; DELETE FROM letters; --", "$1", "%s", "1); DROP TABLE letters;--", "x' UNION SELECT 1--",
           "\u0001\u2028\ufffd", "🎉" * 60, "{}", "${jndi:x}", "../../etc/passwd", "$.a' OR 1", "a]b[c", "*", "%", "_", "payload", "\ud7ff\U0010ffff"]


def test_hostile_texts_are_only_texts(server):
    server.deploy(FUNCTION, FAILS, retries=0)
    bring(server, [whole(0), whole(1, payload='{"ok":1}')])
    group = ask(server, "GET", "/v1/letters/" + ident(0))["group"]
    quoted = [json.dumps(text, ensure_ascii=False) for text in HOSTILE]

    def ask_all(text, literal):
        fields = {name: text for name in ("function", "error", "group", "state", "source", "where", "search")}
        wheres = [f"error = {literal}", f"headers.{literal} = {literal}", f"payload.{literal} contains {literal}", f"search({literal})", f"exists(payload.{literal}[0])",
                  f"payload in ({literal}, {literal})", f"payload.a starts with {literal}", f"group = {literal}", f"source = {literal}", f"key !~ {literal} and error is null"]
        for name, value in [*fields.items(), ("cursor", text), ("order", text), ("as", text), *[("where", each) for each in wheres]]:
            yield "GET", "/v1/letters?" + urllib.parse.urlencode({name: value}), None
        yield "GET", "/v1/groups?" + urllib.parse.urlencode({"function": text}), None
        for place in ("letters", "groups", "replays", "policies"):
            yield "GET", f"/v1/{place}/" + urllib.parse.quote(text, safe=""), None
        yield "PATCH", f"/v1/groups/{group}", {"name": text}
        yield "PATCH", f"/v1/groups/{group}", {"note": text}
        yield "PUT", "/v1/policies/" + urllib.parse.quote(text, safe=""), {"cap": 5}
        only_nothing = {"where": f"key = {literal}"}
        for path in SELECTS:
            for name, value in [*fields.items(), ("where", wheres[1]), ("where", wheres[2])]:
                if not (name == "search" and text in ('"', "{}", "payload", "$1")):  # are in the payloads, or may be
                    yield "POST", path, {"function": "nobody", name: value, **more_for(path)} if name != "function" else {name: value, **more_for(path)}
            yield "POST", path, {**only_nothing, "to": text} if path.endswith(("try", "replays")) else {**only_nothing, "why": text, **more_for(path)}
        yield "POST", "/v1/letters/edit", {**only_nothing, "set": {text: text}}
        yield "POST", "/v1/letters/edit", {**only_nothing, "cursor": text, **EDIT}
        yield "POST", "/v1/letters/import", {"letters": [whole(5, function=text + "'"), whole(6, id=text)]}
    before = everything(server)
    for text, literal in zip(HOSTILE, quoted):
        for method, path, body in ask_all(text, literal):
            status, _, answer = server.http(method, path, body)
            assert status in (200, 400, 404, 405), (method, path, body, status, answer)
    assert everything(server) == before
    assert len(HOSTILE) == len(set(HOSTILE)) and ask(server, "GET", "/v1/policies") == {"policies": []} and ask(server, "GET", "/v1/replays")["replays"] == []


def test_hostile_texts_are_kept_as_they_are(server):
    """In a letter, its edits, a group's note: they come back as they were given."""
    server.deploy(FUNCTION, FAILS, retries=0)
    for n, text in enumerate(HOSTILE):
        bring(server, [whole(n, errorType=text, errorMessage=text, orderingKey=text, contentType=text, payload=text, headers=[[text, text]],
                             source={"kind": text, "name": text, "at": text})])
        letter = ask(server, "GET", "/v1/letters/" + ident(n))
        assert (letter["errorType"], letter["errorMessage"], letter["orderingKey"], letter["payload"], letter["headers"]) == (text, text, text, text, [[text, text]])
        literal = json.dumps(text, ensure_ascii=False)
        assert ident(n) in [one["id"] for one in ask(server, "GET", "/v1/letters", where=f"key = {literal} and error = {literal}")["letters"]], text
        answer = ask(server, "POST", "/v1/letters/edit", {"ids": [ident(n)], "set": {"payload": {text: text}, "headers.x": text}, "why": text})
        assert answer["edited"] == 1, answer
        assert ident(n) in [one["id"] for one in ask(server, "GET", "/v1/letters", where=f"payload.{literal} = {literal} and headers.x = {literal}")["letters"]], text
        letter = ask(server, "GET", "/v1/letters/" + ident(n))
        assert json.loads(letter["payload"]) == {text: text} and letter["edits"][0]["why"] == text
        assert ask(server, "PATCH", "/v1/groups/" + letter["group"], {"note": text})["note"] == text
    assert len(everything(server)) == len(HOSTILE)
