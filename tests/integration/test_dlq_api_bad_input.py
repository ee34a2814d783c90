# SPDX-License-Identifier: Apache-2.0
"""Bad and hostile input to the HTTP API of dead letters: it is told what is wrong, and nothing of the store changes."""
import json
import urllib.parse

import openapi_check
import pytest
from dlq_api import FAILS, FUNCTION, MISSING, ask, bring, everything, ident, whole

AREAS = {"letters", "groups", "replays", "policies"}


@pytest.fixture
def server(serve, backend):
    return serve({"sandbox": "none"}, backend=backend)


# ---- bad input -------------------------------------------------------------------------------------------------------

CHANGES = ("discard", "restore", "retry", "edit", "try")
SELECTS = [f"/v1/letters/{name}" for name in CHANGES] + ["/v1/replays"]
EDIT = {"set": {"payload.n": 1}}


def more_for(path):
    return EDIT if path.endswith("/edit") else {}


BAD_QUERIES = [  # path, query, what the message says
    ("/v1/letters", "limit=0", "limit must be a whole number from 1 to 1000"), ("/v1/letters", "limit=1001", "limit"),
    ("/v1/letters", "limit=-1", "limit"), ("/v1/letters", "limit=ten", "limit"),
    ("/v1/letters", "limit=9999999999999999999", "limit"), ("/v1/letters", "cursor=x", "cursor"),
    ("/v1/letters", "cursor=" + MISSING + "0", "cursor"), ("/v1/letters", "order=up", "order"),
    ("/v1/letters", "full=yes", "full"), ("/v1/letters", "state=lost", "state"),
    ("/v1/letters", "sinceMs=yesterday", "sinceMs"), ("/v1/letters", "untilMs=-5", "untilMs"),
    ("/v1/letters", "where=attempt+%3E%3D", "column 11"), ("/v1/letters", "where=colour+%3D+1", "column 1"),
    ("/v1/letters", "where=%C3%BC+%3D", "column 1"), ("/v1/letters", "where=attempt+%3D+1+or", "column 15"),
    ("/v1/letters", "where=" + "(" * 40, "column 33"), ("/v1/letters", "where=%FF", "where: it is not UTF-8"),
    ("/v1/letters", "search=a%00b", "search: there is a NUL in it"),
    ("/v1/letters", "function=%FF", "function: it is not UTF-8"), ("/v1/letters", "as=sqs", "sqs"),
    ("/v1/groups", "limit=1001", "limit"), ("/v1/groups", "muted=maybe", "muted must be true or false"),
    ("/v1/groups", "sparkMs=1", "sparkMs"), ("/v1/groups", "sinceMs=x", "sinceMs"), ("/v1/replays", "limit=101", "limit"),
    ("/v1/replays", "cursor=0", "cursor"), ("/v1/replays", "open=1", "open"), ("/v1/replays/1/letters", "state=lost", "state"),
    ("/v1/replays/1/letters", "limit=1001", "limit"), ("/v1/replays/1/letters", "cursor=x", "cursor"),
]
BAD_SELECTIONS = [  # members, what the message says
    ({}, "say which letters"), ({"limit": 5}, "say which letters"), ({"all": False}, "say which letters"),
    ({"sinceMs": 0, "untilMs": 0}, "say which letters"), ({"function": ""}, "function is empty"),
    ({"where": " \n"}, "where is empty"), ({"all": True, "group": ""}, "group is empty"),
    ({"ids": []}, "ids must be a list of 1 to 1000 ids"), ({"ids": None}, "ids"), ({"ids": "x"}, "ids"),
    ({"ids": [5]}, "is not an id"), ({"ids": ["x"]}, "'x' is not an id"), ({"ids": [MISSING] * 1001}, "1 to 1000"),
    ({"ids": [MISSING], "all": True}, "not both"), ({"ids": [MISSING], "function": "f"}, "not both"),
    ({"all": 1}, "all must be"), ({"function": 5}, "function must be a string"), ({"error": None}, "error"),
    ({"group": []}, "group"), ({"state": {}}, "state"), ({"state": "lost"}, "state"), ({"source": 1}, "source"),
    ({"where": 1}, "where"), ({"search": True}, "search"), ({"sinceMs": "1"}, "sinceMs"), ({"untilMs": -1}, "untilMs"),
    ({"untilMs": 1.5}, "untilMs"), ({"where": "attempt = = 1"}, "column 11"), ({"where": "x" * 16385}, "16384"),
    ({"functoin": "orders"}, "unknown member 'functoin'"), ({"all": True, "limit": 0}, "limit"),
    ({"all": True, "limit": "5"}, "limit"), ({"all": True, "limit": 1e3}, "limit"),
]
BAD_BODIES = [
    (b"", "not JSON"), (b"{", "not JSON"), (b"[]", "object"), (b"null", "not JSON"), (b'{"all":true,"all":true}', "not JSON"),
    (b'{"all":tru}', "not JSON"), (b'{"function":"a\\u0000b"}', "JSON"), (b'{"function":"\xff"}', "not JSON"),
    (b'{"all":true}x', "not JSON"), (b"[" * 100000, "not JSON"),
]
BAD_CALLS = [  # path, members, what the message says
    ("/v1/letters/discard", {"all": True, "limit": 10001}, "limit"),
    ("/v1/letters/discard", {"all": True, "why": 5}, "why must be a string"),
    ("/v1/letters/purge", {}, "olderThanMs is needed"), ("/v1/letters/purge", {"olderThanMs": -1}, "olderThanMs"),
    ("/v1/letters/purge", {"olderThanMs": "30d"}, "olderThanMs"),
    ("/v1/letters/purge", {"olderThanMs": 0, "dead": "yes"}, "dead must be true or false"),
    ("/v1/letters/purge", {"olderThanMs": 0, "ids": [ident(0)]}, "'ids'"),
    ("/v1/letters/purge", {"olderThanMs": 0, "untilMs": "x"}, "untilMs"),
    ("/v1/letters/purge", {"olderThanMs": 0, "function": ""}, "function is empty"),
    ("/v1/letters/edit", {"all": True}, "set, unset or patch"), ("/v1/letters/edit", {"all": True, "set": []}, "set"),
    ("/v1/letters/edit", {"all": True, "set": {"": 1}}, "set"),
    ("/v1/letters/edit", {"all": True, "set": {"colour": 1}}, "colour"),
    ("/v1/letters/edit", {"all": True, "unset": "payload.n"}, "unset"),
    ("/v1/letters/edit", {"all": True, "patch": [{"op": "jump", "path": "/payload"}]}, "patch[0]"),
    ("/v1/letters/edit", {"all": True, **EDIT, "cursor": "x"}, "cursor"),
    ("/v1/letters/edit", {"all": True, **EDIT, "dryRun": 1}, "dryRun"),
    ("/v1/letters/try", {"all": True, "sample": 201}, "sample"), ("/v1/letters/try", {"all": True, "sample": 0}, "sample"),
    ("/v1/letters/try", {"all": True, "to": 5}, "to must be"), ("/v1/letters/import", {}, "letters must be a list"),
    ("/v1/letters/import", {"letters": {}}, "letters must be a list"), ("/v1/letters/import", {"letter": []}, "'letter'"),
    ("/v1/replays", {"all": True, "rate": -1}, "rate"), ("/v1/replays", {"all": True, "rate": "50/s"}, "rate"),
    ("/v1/replays", {"all": True, "rate": 1e9}, "rate"), ("/v1/replays", {"all": True, "rampMs": 5}, "ramp"),
    ("/v1/replays", {"all": True, "abortShare": 5}, "abortShare"), ("/v1/replays", {"all": True, "sample": -1}, "sample"),
    ("/v1/replays", {"all": True, "inOrder": "yes"}, "inOrder"),
    ("/v1/replays", {"all": True, "to": FUNCTION, "toOrigin": True}, "either to or toOrigin"),
    ("/v1/replays", {"all": True, "toOrigin": True, "sample": 5}, "sample"),
    ("/v1/replays", {"all": True, "limit": 10000001}, "limit"),
]
NOT_THERE = [
    ("GET", "/v1/letters/" + MISSING), ("GET", "/v1/letters/x"), ("GET", "/v1/letters/%00"),
    ("GET", "/v1/letters/" + "9" * 300), ("GET", "/v1/replays/99"), ("GET", "/v1/replays/x"), ("GET", "/v1/replays/-1"),
    ("GET", "/v1/replays/" + "9" * 30), ("POST", "/v1/replays/99/pause"), ("POST", "/v1/replays/99/resume"),
    ("POST", "/v1/replays/99/cancel"), ("GET", "/v1/replays/x/letters"), ("GET", "/v1/groups/nobody"),
    ("GET", "/v1/policies/nobody"), ("GET", "/v1/letters/x/y"),
]
NOT_SO = [
    ("POST", "/v1/letters"), ("DELETE", "/v1/letters/" + MISSING), ("PUT", "/v1/letters/discard"), ("DELETE", "/v1/groups/x"),
    ("POST", "/v1/groups"), ("DELETE", "/v1/replays/1"), ("GET", "/v1/replays/1/pause"), ("POST", "/v1/policies"),
    ("PATCH", "/v1/policies/orders"),
]


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
                real = path.format(id=ident(0), replay=1, name=FUNCTION, group=before[ident(0)]["group"])
                for token in ("", "Bearer ", "Bearer s3cre", "Bearer s3cret2"):
                    assert server.http(method.upper(), real, b'{"all":true}', {"Authorization": token})[0] == 401, (method, path)
    assert everything(server) == before


def test_large_bodies(serve):
    server = serve({"sandbox": "none"})
    bring(server, [whole(0)])
    before = everything(server)
    room = 64 << 20
    for path in ("/v1/letters/discard", "/v1/letters/edit", "/v1/letters/import", "/v1/replays"):
        filler = b'{"ids":["' + b"x" * (room - 11) + b'"]'
        assert server.http("POST", path, filler[:room])[0] == 400, path
    edit = b'{"ids":["%s"],"set":{"payload.x":"%s"}}'
    answer = ask(server, "POST", "/v1/letters/edit", edit % (ident(0).encode(), b"y" * (room - 100)))
    assert answer["edited"] == 0 and answer["refused"][0]["id"] == ident(0), "a payload has at most 6 MiB"
    assert everything(server) == before
    for headers in ({"Content-Length": str(room + 1)}, {"Content-Length": str(1 << 62)}):
        assert server.http("POST", "/v1/letters/discard", b"{}", headers)[0] == 413


# ---- hostile input ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "'", '"', "';DROP TABLE letters;--", "' OR '1'='1", "\\", "\\'; DELETE FROM letters; --", "$1", "%s",
    "1); DROP TABLE letters;--", "x' UNION SELECT 1--", "\u0001\u2028\ufffd", "🎉" * 60, "{}", "${jndi:x}", "../../etc/passwd",
    "$.a' OR 1", "a]b[c", "*", "%", "_", "payload", "\ud7ff\U0010ffff",
]


def expressions(literal):
    return [f"error = {literal}", f"headers.{literal} = {literal}", f"payload.{literal} contains {literal}", f"search({literal})",
            f"exists(payload.{literal}[0])", f"payload in ({literal}, {literal})", f"payload.a starts with {literal}",
            f"group = {literal}", f"source = {literal}", f"key !~ {literal} and error is null"]


def hostile_calls(text, group):
    """Every call with this text in every field; none of them means a letter that is there."""
    literal, path_part = json.dumps(text, ensure_ascii=False), urllib.parse.quote(text, safe="")
    wheres = expressions(literal)
    fields = [(name, text) for name in ("function", "error", "group", "state", "source", "where", "search")]
    for name, value in [*fields, ("cursor", text), ("order", text), ("as", text), *[("where", where) for where in wheres]]:
        yield "GET", "/v1/letters?" + urllib.parse.urlencode({name: value}), None
    yield "GET", "/v1/groups?" + urllib.parse.urlencode({"function": text}), None
    for place in ("letters", "groups", "replays", "policies"):
        yield "GET", f"/v1/{place}/{path_part}", None
    yield "PATCH", f"/v1/groups/{path_part}", {"note": text}
    yield "PATCH", f"/v1/groups/{group}", {"name": text}
    yield "PATCH", f"/v1/groups/{group}", {"note": text}
    yield "PUT", f"/v1/policies/{path_part}", {"cap": 5}
    none = {"where": f'key = {literal} and function = "nobody"'}
    for path in SELECTS:
        for name, value in [*fields, ("where", wheres[1]), ("where", wheres[2])]:
            yield "POST", path, {"function": "nobody", name: value, **more_for(path)}
        yield "POST", path, {**none, "to" if path.endswith(("try", "replays")) else "why": text, **more_for(path)}
    yield "POST", "/v1/letters/edit", {**none, "set": {text: text}}
    yield "POST", "/v1/letters/edit", {**none, "cursor": text, **EDIT}
    yield "POST", "/v1/letters/import", {"letters": [whole(5, function=text + "'"), whole(6, id=text)]}


def test_hostile_texts_are_only_texts(server):
    server.deploy(FUNCTION, FAILS, retries=0)
    bring(server, [whole(0), whole(1, payload='{"ok":1}')])
    before = everything(server)
    for text in HOSTILE:
        for method, path, body in hostile_calls(text, before[ident(0)]["group"]):
            status, _, answer = server.http(method, path, body)
            assert status in (200, 400, 404), (method, path, body, status, answer)
    assert everything(server) == before
    assert ask(server, "GET", "/v1/policies")["policies"] == [] and ask(server, "GET", "/v1/replays")["replays"] == []


def test_hostile_texts_are_kept_as_they_are(server):
    """In a letter, its edits, a group's note: they come back as they were given, and are found by it."""
    def found(where):
        return [letter["id"] for letter in ask(server, "GET", "/v1/letters", where=where)["letters"]]
    for n, text in enumerate(HOSTILE):
        id, literal = ident(n), json.dumps(text, ensure_ascii=False)
        texts = dict.fromkeys(("errorType", "errorMessage", "orderingKey", "contentType", "payload"), text)
        bring(server, [whole(n, **texts, headers=[[text, text]], source={"kind": text, "name": text, "at": text})])
        letter = ask(server, "GET", f"/v1/letters/{id}")
        assert {name: letter[name] for name in texts} == texts and letter["headers"] == [[text, text]]
        assert letter["source"] == {"kind": text, "name": text, "at": text}
        assert found(f"key = {literal} and error = {literal}") == [id]
        edit = {"ids": [id], "set": {"payload": {text: text}, "headers.x": text}, "why": text}
        assert ask(server, "POST", "/v1/letters/edit", edit)["edited"] == 1
        assert found(f"payload.{literal} = {literal} and headers.x = {literal}") == [id]
        letter = ask(server, "GET", f"/v1/letters/{id}")
        assert json.loads(letter["payload"]) == {text: text} and letter["edits"][0]["why"] == text
        assert ask(server, "PATCH", "/v1/groups/" + letter["group"], {"note": text})["note"] == text
    assert len(everything(server)) == len(HOSTILE)
