# SPDX-License-Identifier: Apache-2.0
"""The audit of a running server: an entry for every change, before it is carried out, and no secrets in it."""
import json

import pytest

from dlq_api import bring, ident, whole
from waiting import wait_until

ECHO = "def main_handler(event, context): return event"


def entries(server, **query):
    status, _, body = server.http("GET", "/v1/audit?" + "&".join(f"{k}={v}" for k, v in {"limit": 1000, **query}.items()))
    assert status == 200, body
    return body["entries"]


def newest(server, action):
    found = entries(server, action=action)
    return found[0] if found else None


def wait_outcome(server, action, outcome):
    return wait_until(lambda: (e := newest(server, action)) and e["outcome"] == outcome and e, 10,
                      lambda: f"{action} ends with {outcome}: {newest(server, action)}")


def test_every_change_has_an_entry(serve, backend):
    server = serve(backend=backend)
    server.deploy("orders", ECHO)
    entry = wait_outcome(server, "functions.deploy", "ok")
    assert (entry["who"], entry["remote"], entry["target"]) == ("anonymous", "127.0.0.1", "orders")
    assert list(entry["detail"]) == ["bodyBytes"]  # no package
    status, _, _ = server.http("POST", "/v1/functions/orders/current", {"version": 7}, {"X-Weir-User": "bob"})
    assert status == 404
    entry = wait_until(lambda: (e := newest(server, "functions.current")) and e["outcome"] and e, 10, "an outcome")
    assert entry["who"] == "bob (unverified)" and entry["outcome"].startswith("NotFound: ")
    assert entry["detail"] == {"body": {"version": 7}}
    server.invoke("orders", {})
    server.letters()
    server.delete("orders")
    wait_outcome(server, "functions.delete", "ok")
    assert [e["action"] for e in entries(server)] == ["functions.delete", "functions.current", "functions.deploy"]
    one = server.http("GET", f"/v1/audit/{entry['id']}")[2]
    assert one == entry
    assert entries(server, action="functions.d", target="orders", who="anonymous", limit=1)[0]["action"] == "functions.delete"


@pytest.mark.parametrize("point, done", [("audit.begun", False), ("audit.changed", True)])
def test_a_server_that_dies_in_between_leaves_an_entry(serve, backend, point, done):
    server = serve(backend=backend)
    server.deploy("orders", ECHO)
    server.stop()
    server.env["WEIR_CRASH_AT"] = point
    server.start()
    with pytest.raises(OSError):
        server.delete("orders")
    server.wait_exit()
    del server.env["WEIR_CRASH_AT"]
    server.start()
    entry = newest(server, "functions.delete")
    assert entry["outcome"] == "" and entry["target"] == "orders"
    assert (server.http("GET", "/v1/functions/orders")[0] == 404) == done
    shown = server.cli("audit", "show", entry["id"])
    assert shown.returncode == 0 and "unknown" in shown.stdout and "may or may not have happened" in shown.stderr


def test_secrets_stay_out(serve, backend):
    server = serve({"redact": "password,card.number", "tokens": "alice:t0ken-a,ci:t0ken-c"}, backend=backend)
    alice, ci = ({"Authorization": f"Bearer {token}"} for token in ("t0ken-a", "t0ken-c"))
    assert server.http("GET", "/v1/audit")[0] == 401
    body = {"where": 'payload.password = "s3cr3t"', "why": "the password=s3cr3t leaked", "set": {"payload.card.number": "s3cr3t"},
            "patch": [{"op": "add", "path": "/headers/password", "value": "s3cr3t"}]}
    server.http("POST", "/v1/letters/discard", body, alice)
    server.http("POST", "/v1/triggers", {"function": "f", "kind": "kafka", "settings": {"sasl.password": "s3cr3t", "brokers": "x://u:s3cr3t@h"}}, ci)
    found = server.http("GET", "/v1/audit", headers=ci)[2]["entries"]
    assert [e["who"] for e in found] == ["ci", "alice"]
    assert "s3cr3t" not in json.dumps(found) and "t0ken" not in json.dumps(found)
    assert found[1]["detail"]["body"]["why"] == "the password=*** leaked"
    assert "t0ken" not in json.dumps(server.http("GET", "/v1/config", headers=ci)[2])


def test_nothing_is_changed_while_the_store_is_away(serve, real_backend):
    server = serve(backend=real_backend)
    server.deploy("orders", ECHO)
    wait_outcome(server, "functions.deploy", "ok")
    real_backend.db.kill9()
    try:
        status = wait_until(lambda: (s := server.http("DELETE", "/v1/functions/orders")[0]) == 503 and s, 30, "503")
        assert status == 503
    finally:
        real_backend.db.start()
    wait_until(lambda: server.http("GET", "/v1/audit?limit=1")[0] == 200, 30, "the store is back")
    assert server.http("GET", "/v1/functions/orders")[0] == 200


def test_letters_are_counted_and_a_dry_run_leaves_no_trace(serve, backend):
    server = serve(backend=backend)
    bring(server, [whole(n) for n in range(5)])
    body = {"all": True, "set": {"payload.edited": True}}
    assert server.http("POST", "/v1/letters/edit", {**body, "dryRun": True})[2]["edited"] == 5
    odd = b'{"all": true, "set": {"payload.n": 1e999}, "dryRun": true}'  # no number for the audit: it cannot tell what the body asks for
    assert server.http("POST", "/v1/letters/edit", odd)[2]["edited"] == 5
    wait_outcome(server, "letters.edit", "ok")
    server.http("POST", "/v1/letters/edit", {**body, "limit": 2})
    server.http("POST", "/v1/letters/discard", {"ids": [ident(n) for n in (0, 1, 7)]})
    made = server.http("POST", "/v1/replays", {"all": True})[2]["replay"]
    wait_outcome(server, "replays.start", f"ok: replay {made}")
    assert [(e["action"], e["outcome"]) for e in reversed(entries(server))] == [
        ("letters.import", "ok: 5 imported"), ("letters.edit", "ok"), ("letters.edit", "ok: 2 edited"), ("letters.discard", "ok: 2 discarded, 1 refused"),
        ("replays.start", f"ok: replay {made}")]


def test_the_command(serve):
    server = serve()
    server.env["USER"] = "carol"
    for n in range(3):
        server.cli("dlq", "discard", "--function", f"f{n}", "--yes", "--why", "x")
    listed = server.cli("audit", "--action", "letters.")
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["N", "TIME", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME"]
    assert [line.split()[-4] for line in lines[1:]] == ["f2", "f1", "f0"]
    assert all("(unverified)" in line and line.endswith(" ok: 0 discarded") for line in lines[1:])
    shown = json.loads(server.cli("audit", "--limit", "2", "--json").stdout)
    assert [e["target"] for e in shown["entries"]] == ["f2", "f1"] and shown["more"] is True
    one = json.loads(server.cli("audit", "show", shown["entries"][0]["id"], "--json").stdout)
    assert one == shown["entries"][0]
    assert server.cli("audit", "--since", "1h", "--target", "f1", "--json").returncode == 0
    assert "no such entry" in server.cli("audit", "--who", "nobody").stderr
    for wrong, code in ((["show", "x"], 2), (["show"], 2), (["list"], 2), (["--limit", "0"], 2), (["show", "999"], 1)):
        done = server.cli("audit", *wrong)
        assert done.returncode == code and done.stderr.startswith("weir:")
