# SPDX-License-Identifier: Apache-2.0
"""A secret that somebody types into a selection: it is found, and shown nowhere afterwards."""
import json
import sqlite3
import urllib.parse

import psycopg2
import pytest

from dlq_api import ask
from waiting import wait_until

SECRET = "hunter2secret"
FAILS = "def main_handler(event, context): raise ValueError('no')"
FIELDS = ["payload.password", "payload.'password'", "payload.card[0].number", "headers.x-api-key", "payload.user.password.old"]
FIND = ['= "{}"', "== '{}'", 'in ("{}", "b")', 'contains "{}"', 'starts with "{}"', '~ "{}"', '>= "{}"', '<= "{}"']  # all letters
OTHERS = ['!= "{}"', '<> "{}"', '< "{}"', '> "{}"', '!~ "{}"', 'not in ("{}")', 'not contains "{}"', 'not starts with "{}"']  # none
WRONG = ["= {}", "{}", "like '{}'", "= '{}", "= '{}' {}", "is {}", "starts '{}'", "in {}", "in ('a' '{}')", "= 2h{}", "= 'x\\{}'", "= 'a' or {} = 2"]


@pytest.fixture
def server(serve, backend):
    server = serve({"redact": "password,card.number,x-api-key"}, backend=backend)
    server.deploy("f", FAILS, retries=0)
    for n in range(2):
        server.send("f", {"password": SECRET, "card": [{"number": SECRET}], "user": {"password": {"old": SECRET}}, "n": n}, {"X-Weir-Header-X-Api-Key": SECRET})
    server.wait_letters(2)
    return server


def of_view(server, backend, view):
    """All of a view as text."""
    db = sqlite3.connect(server.dir / "data" / "weir.db") if backend.embedded else psycopg2.connect(backend.store_url)
    try:
        cursor = db.cursor()
        cursor.execute(f"SELECT * FROM {view}")
        return "\n".join(str(row) for row in cursor.fetchall())
    finally:
        db.close()


def outcomes(server):
    entries = ask(server, "GET", "/v1/audit", limit=1000)["entries"]
    return entries if all(entry["outcome"] for entry in entries) else None


def nowhere(server, backend):
    """All entries of the audit, with an outcome; the secret is in nothing that is shown."""
    entries = wait_until(lambda: outcomes(server), 10, "all outcomes")
    shown = {"audit": json.dumps(entries), "replays": json.dumps(ask(server, "GET", "/v1/replays", limit=100)), "log": server.log_text(),
             "letters": json.dumps([ask(server, "GET", "/v1/letters", state=state, full="true") for state in ("dead", "replayed", "discarded")]),
             "weir_replays": of_view(server, backend, "weir_replays"), "weir_audit": of_view(server, backend, "weir_audit")}
    for where, text in shown.items():
        at = text.find(SECRET)
        assert at < 0, f"{where}: …{text[max(0, at - 200):at + 20]}"
    return entries


@pytest.mark.parametrize("field", FIELDS)
def test_what_finds_by_a_secret_is_masked(server, backend, field):
    selections = [f"{field} {compared.format(SECRET)}" for compared in FIND]
    for where in selections:
        assert len(ask(server, "GET", "/v1/letters", where=where)["letters"]) == 2, where
        assert ask(server, "POST", "/v1/letters/try", {"where": where, "sample": 1})
        assert ask(server, "POST", "/v1/letters/discard", {"where": where})["discarded"] == 2, where
        assert ask(server, "POST", "/v1/letters/restore", {"where": where, "state": "discarded"})["restored"] == 2, where
        job = ask(server, "POST", "/v1/replays", {"where": where, "limit": 1, "rate": 0.001}, 201)
        assert "***" in job["selection"] and field in job["selection"], job
        ask(server, "POST", f"/v1/replays/{job['replay']}/cancel", {})
        wait_until(lambda: len(server.letters()) == 2, 20, "both letters are dead again")
    for where in [f"{field} {compared.format(SECRET)}" for compared in OTHERS]:
        text = ask(server, "POST", "/v1/replays", {"where": where}, 404)["message"]
        assert SECRET not in text and "***" in text
    entries = nowhere(server, backend)
    masked = [e["detail"]["body"]["where"] for e in entries if e["action"] == "letters.discard"]
    assert len(masked) == len(FIND) and all("***" in where and field in where for where in masked), masked


@pytest.mark.parametrize("field", FIELDS)
def test_what_cannot_be_read_is_told_without_it(server, backend, field):
    for wrong in WRONG:
        where = f"{field} {wrong.format(SECRET, SECRET)}"
        for path in ("letters/discard", "replays", "letters/edit", "letters/try"):
            text = ask(server, "POST", "/v1/" + path, {"where": where, **({"set": {"payload.n": 1}} if path.endswith("edit") else {})}, 400)["message"]
            assert text.startswith("column ") and SECRET not in text, (where, text)
        text = ask(server, "GET", "/v1/letters", None, 400, where=where)["message"]
        assert SECRET not in text, (where, text)
        newest = ask(server, "GET", "/v1/audit", limit=1, action="letters.edit")["entries"][0]
        assert newest["detail"]["body"] == {"whereBytes": len(where), "set": {"payload.n": 1}}
    nowhere(server, backend)


def test_a_request_that_is_wrong_in_other_ways_keeps_none_of_it(server, backend):
    good = f'payload.password != "{SECRET}"'
    for body in ('{"where": "headers.x-api-key" "%s"}', '{"where": "%s', '{"where": "%s\\x"}', '{"where": "%s\n"}', '{"where": %s}'):
        status, _, answer = server.http("POST", "/v1/letters/discard", (body % SECRET).encode())
        assert status == 400 and "hunter" not in answer["message"], answer
    ask(server, "POST", "/v1/letters/discard", {"where": good, "nothing": 5}, 400)
    ask(server, "POST", "/v1/letters/discard", {"where": good, "ids": ["x"]}, 400)
    for query in ({"where": good}, {"where": good[:-1]}, {"limit": "1", "where": good}):
        ask(server, "POST", "/v1/letters/discard", {"where": "payload.n"}, 400, **query)
    ask(server, "POST", "/v1/letters/discard?wh%65re=" + urllib.parse.quote(good), {"where": "payload.n"}, 400)
    entries = nowhere(server, backend)
    details = [e["detail"] for e in entries if e["action"] == "letters.discard"]
    assert len(details) == 7, "a parameter that there is not is refused before anything is written down"
    assert not any("where" in d or "whereBytes" in d for d in details), details
