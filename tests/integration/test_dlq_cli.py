# SPDX-License-Identifier: Apache-2.0
"""weir dlq against a stand-in for the server: which letters it asks for, what it prints, and how it ends. Replays, tries, exports
and imports are in test_dlq_replay_cli.py."""
import base64
import fcntl
import json
import os
import pathlib
import pty
import re
import struct
import subprocess
import termios
import time

import pytest

from fake_server import LETTER_IDS, FakeServer, error, letter, whole_letter

WEIR = os.environ.get("WEIR_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build/weir")
SECONDS = 60
GROUP = "9f86d081884c7d65"
ID = LETTER_IDS[0]


@pytest.fixture
def fake():
    server = FakeServer()
    server.http.RequestHandlerClass.do_PATCH = server.http.RequestHandlerClass.do_GET
    yield server
    server.close()


@pytest.fixture
def dlq(fake, tmp_path):
    def run(*words, rc=0, **more):
        env = {**os.environ, "WEIR_SERVER": fake.url, "TMPDIR": str(tmp_path), **more.pop("env", {})}
        env.pop("WEIR_TOKEN", None)
        done = subprocess.run([WEIR, "dlq", *map(str, words)], env=env, cwd=tmp_path, timeout=SECONDS, capture_output=True, **more)
        done.out, done.err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        assert done.returncode == rc, done.out + done.err
        return done
    return run


def on_terminal(fake, *words, answer=b"", env=None, size=None, typed=b""):
    """Runs it on a terminal of its own, where something may have been typed before, and answers its question; returns the exit code and
    what was shown."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    if size:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    p = subprocess.Popen([WEIR, "dlq", *words, "--server", fake.url], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
                         env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **(env or {})})
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        shown += part
        if answer and shown.endswith(b"[y/N] "):
            os.write(ours, answer)
            answer = b""
    os.close(ours)
    return p.wait(SECONDS), shown.decode()


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*[mK]", "", text).replace("\r\n", "\n")


def bodies(fake, path):
    return [json.loads(r["body"]) for r in fake.sent("POST", "/v1/letters/" + path)]


# ---- the selection ----------------------------------------------------------------------------------------------------------

WHERE = "payload.customer = \"acme\" and attempt >= 3"
OPTIONS = ["--group", "no-total", "--function", "orders", "--error", "KeyError", "--since", "2025-01-02", "--until", "2025-02-02T01:00:00Z",
           "--where", WHERE, "--search", "100% & more", "--source", "kafka:orders/3"]
MEMBERS = {"group": "no-total", "function": "orders", "error": "KeyError", "sinceMs": 1735776000000, "untilMs": 1738458000000,
           "where": WHERE, "search": "100% & more", "source": "kafka:orders/3"}


def test_a_selection_is_the_same_in_a_query_and_in_a_body(dlq, fake):
    dlq("list", *OPTIONS, "--state", "replayed", "--order", "oldest", "--limit", "7")
    assert fake.requests[-1]["query"] == {**{name: str(value) for name, value in MEMBERS.items()}, "state": "replayed", "order": "oldest",
                                          "limit": "7"}
    fake.expect("POST", "/v1/letters/discard", (200, {"discarded": 0, "more": False, "refused": []}))
    dlq("discard", "--yes", *OPTIONS, "--state", "due")
    assert bodies(fake, "discard") == [{**MEMBERS, "state": "due"}]


def test_short_options(dlq, fake):
    dlq("list", "-g", GROUP, "-f", "orders", "-w", "attempt > 1", "-s", "due")
    assert fake.requests[-1]["query"] == {"group": GROUP, "function": "orders", "where": "attempt > 1", "state": "due", "limit": "50"}


@pytest.mark.parametrize("words, said", [
    (["discard"], "say which letters: ids, --group"), (["discard"], "or --all"), (["edit", "--set", "payload.a=1"], "say which letters"),
    (["retry"], "say which letters"), (["restore"], "say which letters"),
    (["discard", "x", "--where", "a"], "either ids or a selection"), (["discard", "x", "--all"], "either ids or a selection"),
    (["discard", "x", "--limit", "2"], "either ids or a selection"), (["discard", "--all", "--group", "x"], "--all means all"),
    (["discard", "--where", "a", "--where", "b"], "--where can be given once"), (["list", "-g", "a", "-g", "b"], "--group can be given once"),
    (["purge", "--older-than", "1d", "-f", "a", "-f", "b"], "--function can be given once"),
    (["discard", "--group", ""], "--group is empty"), (["list", "--limit", "0"], "at least 1"), (["groups", "--limit", "0"], "at least 1"),
    (["discard", *map(str, range(1001))], "at most 1000 ids"), (["purge"], "--older-than"), (["purge", "--older-than", "soon"], "soon"),
    (["group", GROUP, "--mute", "--unmute"], "not both"), (["show", ID, "--payload", "--json"], "not both"), (["list", "--state", "gone"], "due|dead"),
    (["edit", "-g", GROUP], "say what to change"), (["edit", ID, "--set", "payload.a"], "PATH=JSON"), (["edit", ID, "--set", "=1"], "PATH=JSON"),
    (["edit", ID, "--set", "payload.a=EUR"], "the value is not JSON"), (["edit", ID, "--set", "a=1", "--set", "a=2"], "twice"),
    (["policy", "--keep", "3d"], "which function"), (["policy", "orders", "--keep", "x"], "--keep"), (["policy", "orders", "--cap", "-1"], "whole number"),
    (["policy", "orders", "--auto-replay-on-deploy", "sample:5,speed:3"], "the parts are"),
    (["policy", "orders", "--auto-replay-on-deploy", "rate:0"], "is not a rate"),
    (["policy", "orders", "--auto-replay-on-deploy", "abort:200%"], "is not a share"),
    (["policy", "orders", "--remove", "--cap", "1"], "nothing else"),
])
def test_wrong_use_changes_nothing_and_says_what_to_do(dlq, fake, words, said):
    assert said in dlq(*words, rc=2).err
    assert [r for r in fake.requests if r["method"] != "GET"] == []


def test_the_place_of_a_mistake_in_where_is_passed_on(dlq, fake):
    fake.expect("GET", "/v1/letters", (400, error("InvalidArgument", "where: column 9: a value is missing")))
    assert "weir: where: column 9: a value is missing" in dlq("list", "--where", "attempt >", rc=1).err


# ---- groups -----------------------------------------------------------------------------------------------------------------


def group(**more):
    now_ms = int(time.time() * 1000)
    return {"group": GROUP, "name": "", "note": "", "muted": False, "count": 412, "functions": ["orders"], "firstVersion": 3, "lastVersion": 7,
            "firstMs": now_ms - 7300000, "lastMs": now_ms - 6030000, "errorType": "KeyError", "title": "'total' is missing in " + "x" * 150,
            "place": "orders.py main_handler", "spark": [0] * 20 + [1, 40, 0, 80], **more}


def test_hints_are_dim_on_a_terminal(fake):
    fake.expect("GET", "/v1/letters", *[(200, {"letters": [letter(0)], "next": "c"})] * 2)
    rc, shown = on_terminal(fake, "list", "--limit", "1")
    assert rc == 0 and "\x1b[2mthere are more than this one: --limit N\x1b[0m" in shown, shown
    rc, shown = on_terminal(fake, "list", "--limit", "1", env={"NO_COLOR": "1"})
    assert rc == 0 and "\x1b" not in shown, shown


def test_groups(dlq, fake):
    fake.expect("GET", "/v1/groups", *[(200, {"groups": [
        group(), group(group="0" * 16, name="bad-json", count=2, functions=["a", "b", "c"], firstVersion=0, lastVersion=0, muted=True,
                       spark=[0] * 24)], "letters": 414, "more": True})] * 2)
    done = dlq("groups", "--function", "orders", "--since", "2025-01-02", "--muted", "--limit", "2", env={"LC_ALL": "C.UTF-8"})
    assert fake.requests[-1]["query"] == {"function": "orders", "sinceMs": "1735776000000", "muted": "true", "limit": "2"}
    head, first, second = done.out.splitlines()
    assert head.split() == ["GROUP", "COUNT", "FUNCTION", "VERSIONS", "FIRST", "LAST", "24H", "ERROR"]
    assert first.split()[:6] == [GROUP, "412", "orders", "3-7", "2h", "100m"]
    assert "▁" * 20 + "▂▅▁█" in first and first.endswith("KeyError: 'total' is missing in " + "x" * 150)
    assert "bad-json (muted)" in second and "a, b +1" in second and " -  " in second and "▁" * 24 in second
    assert "414 letters" in done.err and f"weir dlq group {GROUP}" in done.err and "more than these 2 groups" in done.err
    assert "_" * 20 + ".=_#" in dlq("groups", env={"LC_ALL": "C"}).out


def test_no_groups(dlq, fake):
    fake.expect("GET", "/v1/groups", (200, {"groups": [], "letters": 0, "more": False}), (200, {"groups": [], "letters": 0, "more": False}))
    done = dlq("groups", "--function", "orders")
    assert done.out == "" and done.err == "no dead letters of orders; --muted shows the muted groups too\n"
    assert json.loads(dlq("groups", "--json").out)["groups"] == []


def test_rows_of_groups_fit_the_terminal(fake):
    fake.expect("GET", "/v1/groups", (200, {"groups": [group(title="tab\x1b[2J é" + "y" * 300)], "letters": 412, "more": False}))
    code, shown = on_terminal(fake, "groups", size=(40, 120), env={"LC_ALL": "C.UTF-8"})
    row = plain(shown).splitlines()[1]
    assert code == 0 and len(row) == 120 and row.endswith("y…") and "\x1b[2J" not in shown


def test_a_group_is_shown_and_described(dlq, fake):
    path = "/v1/groups/" + GROUP
    whole = group(name="no-total", note="WEB-311\nsee there", letter=ID)
    fake.expect("GET", path, (200, whole), (200, whole), (404, error("NotFound", "there is no group 'x'")))
    shown = dlq("group", GROUP)
    for part in [GROUP, "no-total", "KeyError: 'total'", "orders.py main_handler", "412 of orders, version 3-7", "first 2h ago", "WEB-311", ID]:
        assert part in shown.out
    assert f"weir dlq show {ID}" in shown.err and "weir dlq replay -g no-total" in shown.err
    assert json.loads(dlq("group", GROUP, "--json").out)["count"] == 412
    assert "there is no group" in dlq("group", GROUP, rc=1).err
    fake.expect("PATCH", path, (200, whole), (200, whole))
    dlq("group", GROUP, "--name", "no-total", "--note", "", "--mute")
    dlq("group", GROUP, "--unmute")
    assert [json.loads(r["body"]) for r in fake.sent("PATCH", path)] == [{"name": "no-total", "note": "", "muted": True}, {"muted": False}]


# ---- list -------------------------------------------------------------------------------------------------------------------


def test_list(dlq, fake):
    fake.expect("GET", "/v1/letters", (200, {"letters": [{**letter(0), "group": GROUP}], "next": None}))
    head, row = dlq("list").out.splitlines()
    assert head.split() == ["ID", "FUNCTION", "STATE", "ATTEMPTS", "GROUP", "ERROR", "AGE"]
    assert row.split()[:7] == [ID, "orders", "dead", "4", GROUP, "KeyError:", "'total'…"]
    assert len(json.loads(dlq("list", "--json", "--state", "due").out)["letters"]) == 2


def test_a_list_shows_the_ages_that_it_is_sorted_by(dlq, fake):
    """Of the events, whenever the letters were changed."""
    made = [int((time.time() - hours * 3600 - 60) * 1000) for hours in (1, 2, 26)]
    ids = ["%08x-%04x-7000-8000-000000000001" % (ms >> 16, ms & 0xffff) for ms in made]
    fake.expect("GET", "/v1/letters", (200, {"letters": [{**letter(0), "id": id, "changedMs": made[0]} for id in ids], "next": None}))
    assert [row.split()[-1] for row in dlq("list").out.splitlines()[1:]] == ["61m", "2h", "26h"]


def test_list_reads_pages(dlq, fake):
    page = lambda i: (200, {"letters": [{"id": LETTER_IDS[i]}], "next": "c%d" % i})
    fake.expect("GET", "/v1/letters", page(0), page(1), page(2))
    done = dlq("list", "--limit", "2")
    assert [r["query"].get("cursor") for r in fake.requests] == [None, "c0"]
    assert "there are more" in done.err and len(done.out.splitlines()) == 3
    fake.letters = []
    fake.script.clear()
    done = dlq("list")
    assert (done.out, done.err) == ("", "no dead letters\n")


# ---- show -------------------------------------------------------------------------------------------------------------------

T = 1760000000000  # 2025-10-09T08:53:20.000Z


def attempt(n, **more):
    return {"attempt": n, "startMs": T + n * 1000, "durationMs": 12, "worker": "node1:77", "instance": 4711, "version": 2, "outcome": "error",
            "errorType": "KeyError", "errorMessage": "'total'", "stack": "STACK %d" % n, "log": "LOG %d" % n, **more}


def lived(**more):
    return {**letter(0), "group": GROUP, "place": "orders.py main_handler", "diedMs": T + 5000, "changedMs": T + 9000, "orderingKey": "c-17",
            "source": {"kind": "kafka", "name": "kafka-orders", "at": '{"topic":"orders","partition":3,"offset":1200}'},
            "headers": [["shop", "north"]], "contentType": "application/json", "payload": '{"n":1.10,"big":123456789012345678901234567890}',
            "history": [attempt(1), attempt(2), attempt(3, errorMessage="other\nline"), attempt(4)],
            "edits": [{"revision": 1, "atMs": T + 7000, "who": "ops", "why": "no currency",
                       "patch": [{"op": "add", "path": "/payload/currency", "value": "EUR"}, {"op": "remove", "path": "/headers/x"}]}],
            "replays": [{"replay": 12, "state": "sent", "eventId": LETTER_IDS[1], "outcome": "dead", "why": "", "atMs": T + 6000},
                        {"replay": 13, "state": "sent", "eventId": LETTER_IDS[2], "outcome": None, "why": "", "atMs": T + 8000}],
            "why": "", "edited": True, "redacted": False, **more}


def show(fake, dlq, *words, **more):
    fake.expect("GET", "/v1/letters/" + ID, (200, lived(**more)))
    return dlq("show", ID, *words)


def test_show_tells_the_whole_life_in_order(dlq, fake):
    done = show(fake, dlq)
    life = ["2025-10-09T08:53:20.000Z  accepted from kafka: trigger kafka-orders, topic orders, partition 3, offset 1200, key c-17",
            "08:53:21.000Z  attempt 1  12ms  error  version 2  on node1:77 (process 4711)", "\n    KeyError: 'total'\n", "attempt 2", "the same error",
            "attempt 3", "    KeyError: other…", "attempt 4", "      STACK 4", "      LOG 4", "died after 4 attempts",
            f"replay 12: sent as {LETTER_IDS[1]}, dead", "edited by ops, revision 1: no currency", '    add /payload/currency "EUR"', "    remove /headers/x",
            f"replay 13: sent as {LETTER_IDS[2]}, not ended yet", "  shop: north"]
    at = [done.out.index(part) for part in life]
    assert at == sorted(at)
    assert "STACK 1" not in done.out and "LOG 3" not in done.out
    for part in ["orders:2", "dead (kind function, 4 attempts)", GROUP, "orders.py main_handler", "Payload (7 B, application/json, edited)",
                 '\n  {\n    "n": 1.10,\n    "big": 123456789012345678901234567890\n  }\n']:
        assert part in done.out
    for part in [f"weir dlq edit {ID} --set", f"weir dlq try {ID} --to", f"weir dlq replay {ID}", f"-g {GROUP}"]:
        assert part in done.err


def test_show_attempts_has_every_stack(dlq, fake):
    shown = show(fake, dlq, "--attempts").out
    assert all(f"STACK {n}" in shown and f"LOG {n}" in shown for n in (1, 2, 3, 4)) and "    line\n" in shown


def test_show_says_why_it_was_discarded_or_restored_and_when_it_is_due(dlq, fake):
    gone = show(fake, dlq, state="discarded", why="WEB-311")
    assert "08:53:29.000Z  discarded: WEB-311" in gone.out and f"weir dlq restore {ID}" in gone.err
    assert "08:53:29.000Z  restored: by mistake" in show(fake, dlq, state="dead", why="by mistake").out
    due = show(fake, dlq, state="due", dueMs=int(time.time() * 1000) + 3600000)
    assert "due in 59m" in due.out or "due in 60m" in due.out
    assert "died after" not in due.out and f"weir dlq retry {ID}" in due.err
    assert "as a replay of " + LETTER_IDS[3] in show(fake, dlq, originId=LETTER_IDS[3]).out


def test_show_json_gives_the_letter(dlq, fake):
    assert json.loads(show(fake, dlq, "--json").out)["edits"][0]["who"] == "ops"


@pytest.mark.parametrize("payload", [b'{"n":1.10}', b"\x00\xff\r\n\x1b[31m" * 1000, b"", "é\u0000x".encode()])
def test_payload_prints_the_bytes_and_nothing_else(dlq, fake, payload):
    try:
        text, binary = {"payload": payload.decode()}, {}
    except UnicodeDecodeError:
        text, binary = {}, {"payload": None, "payloadBase64": base64.b64encode(payload).decode()}
    done = show(fake, dlq, "--payload", **text, **binary)
    assert done.stdout == payload


def test_a_large_payload_is_cut_and_said(dlq, fake):
    done = show(fake, dlq, payload=json.dumps({"items": ["é" * 50] * 200}, ensure_ascii=False))
    shown = done.out.split("Payload (")[1]
    assert 1500 < len(shown.encode()) < 2500 and "�" not in shown and f"weir dlq show {ID} --payload" in done.err
    deep = "[" * 500 + "]" * 500
    done = show(fake, dlq, payload=deep)
    assert len(done.out.split("Payload (")[1]) < 4000 and "--payload" in done.err


def test_a_binary_payload_is_shown_as_hex(dlq, fake):
    whole = base64.b64encode(bytes(range(256)) * 4).decode()
    shown = show(fake, dlq, payload=None, payloadBase64=whole)
    assert "  00 01 02" in shown.out and "fe ff\n" in shown.out and "--payload" in shown.err


def test_masked_values_are_said(dlq, fake):
    assert "masks" in show(fake, dlq, redacted=True).err


def test_control_characters_do_not_reach_the_terminal(fake):
    evil = "\x1b]0;owned\x07\x1b[2J\u009b31m"
    fake.expect("GET", "/v1/letters/" + ID, (200, lived(
        payload=evil, headers=[["h" + evil, evil]], orderingKey=evil, errorMessage=evil, errorType=evil, place=evil, contentType=evil,
        history=[attempt(1, errorMessage=evil, stack=evil, log=evil, worker=evil, outcome=evil), attempt(2, errorMessage=evil + "x")],
        edits=[{"revision": 1, "atMs": T, "who": evil, "why": evil, "patch": [{"op": "add", "path": evil, "value": evil}]}], why=evil,
        replays=[{"replay": 1, "state": "failed", "eventId": None, "outcome": None, "why": evil, "atMs": T}])))
    code, shown = on_terminal(fake, "show", ID, "--attempts")
    assert code == 0
    left = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "owned" in left and not [c for c in left if (ord(c) < 32 and c not in "\r\n\t") or 127 <= ord(c) < 160]
    assert "[2J" in left and "\x1b[2J" not in shown


def test_a_payload_on_a_terminal_is_tamed(fake):
    fake.expect("GET", "/v1/letters/" + ID, (200, lived(payload="a\x1b[2Jb")))
    assert on_terminal(fake, "show", ID, "--payload") == (0, "a?[2Jb\r\n")


# ---- edit -------------------------------------------------------------------------------------------------------------------


def edited(i, **more):
    before = {"payload": {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "headers": {}}
    after = {"payload": {"a": 1, "b": 2, "c": i, "d": 4, "e": 5}, "headers": {}}
    return {"id": LETTER_IDS[i % 5], "revision": 1, "patch": [{"op": "replace", "path": "/payload/c", "value": i}], "before": json.dumps(before),
            "after": json.dumps(after), **more}


def edit_answer(*letters, more=False, next=None, refused=(), unchanged=0):
    return 200, {"edited": len(letters), "unchanged": unchanged, "more": more, "next": next, "refused": list(refused), "letters": list(letters)}


def test_edit_shows_the_diff_and_the_end(dlq, fake):
    fake.expect("POST", "/v1/letters/edit", edit_answer(edited(0)))
    done = dlq("edit", ID, "--set", "payload.c=0", "--unset", "headers.x", "--why", "WEB-311")
    assert done.out == (f'{ID}\n@@ -3,5 +3,5 @@\n     "a": 1,\n     "b": 2,\n-    "c": 3,\n+    "c": 0,\n     "d": 4,\n     "e": 5\n'
                        "1 letter edited\n")
    assert bodies(fake, "edit") == [{"ids": [ID], "why": "WEB-311", "set": {"payload.c": 0}, "unset": ["headers.x"]}]


def test_values_stay_as_they_are_written(dlq, fake):
    fake.expect("POST", "/v1/letters/edit", edit_answer(edited(0)))
    dlq("edit", ID, "--set", "payload.n=12345678901234567890123.4500", "--set", 'payload."a=b"="x=y"')
    body = fake.requests[-1]["body"]
    assert b'"payload.n":12345678901234567890123.4500' in body and json.loads(body)["set"]['payload."a=b"'] == "x=y"


def test_edit_takes_a_patch_from_a_file_or_stdin(dlq, fake, tmp_path):
    patch = '[{"op":"add","path":"/payload/n","value":1.50}]'
    (tmp_path / "p.json").write_text(patch)
    (tmp_path / "bad.json").write_text("{}")
    fake.expect("POST", "/v1/letters/edit", edit_answer(), edit_answer())
    dlq("edit", ID, "--patch", "p.json")
    dlq("edit", ID, "--patch", "-", input=patch.encode())
    assert all(('"patch":' + patch).encode() in r["body"] for r in fake.requests)
    assert "is not a JSON Patch" in dlq("edit", ID, "--patch", "bad.json", rc=1).err
    assert "cannot read none.json" in dlq("edit", ID, "--patch", "none.json", rc=1).err
    assert len(fake.requests) == 2


def test_edit_of_many_goes_on_by_the_cursor_and_shows_three(dlq, fake):
    refused = [{"id": LETTER_IDS[4], "state": "replaying", "why": "it is being replayed"}]
    pages = [edit_answer(edited(0), edited(1), edited(2), edited(3), more=True, next="after-3"), edit_answer(edited(4), refused=refused, unchanged=2)]
    fake.expect("POST", "/v1/letters/edit", *pages, *pages)
    done = dlq("edit", "--yes", "--where", "payload.c = 3", "--set", "payload.c=0", rc=1)
    assert done.out.count("@@ ") == 3 and done.out.endswith("… and 2 more\n5 letters edited, 2 had it already\n")
    assert f"weir: {LETTER_IDS[4]}: it is being replayed" in done.err
    assert [b.get("cursor") for b in bodies(fake, "edit")] == [None, "after-3"]
    assert all(b["where"] == "payload.c = 3" and "dryRun" not in b for b in bodies(fake, "edit"))
    shown = json.loads(dlq("edit", "--yes", "--where", "payload.c = 3", "--set", "payload.c=0", "--json", rc=1).out)
    assert (shown["edited"], shown["unchanged"], len(shown["letters"]), shown["refused"]) == (5, 2, 5, refused)
    assert "before" not in shown["letters"][0] and shown["letters"][4]["patch"]


def test_edit_keeps_to_its_limit(dlq, fake):
    fake.expect("POST", "/v1/letters/edit", edit_answer(edited(0), edited(1), more=True, next="c"), edit_answer(edited(2), more=True, next="d"))
    dlq("edit", "--yes", "--all", "--set", "payload.c=0", "--limit", "3")
    assert [b["limit"] for b in bodies(fake, "edit")] == [3, 1] and all(b["all"] for b in bodies(fake, "edit"))
    unfit = [{"id": LETTER_IDS[n], "state": "dead", "why": "there is no payload.x"} for n in (0, 1)]
    fake.expect("POST", "/v1/letters/edit", edit_answer(refused=unfit, more=True, next="c"))
    dlq("edit", "--all", "--set", "payload.x.y=0", "--limit", "2", "--dry-run", rc=1)
    assert len(bodies(fake, "edit")) == 3  # those were the two


def test_dry_run_only_shows(dlq, fake):
    fake.expect("POST", "/v1/letters/edit", edit_answer(edited(0)))
    assert dlq("edit", ID, "--set", "payload.c=0", "--dry-run").out.endswith("1 letter would be edited\n")
    assert [b["dryRun"] for b in bodies(fake, "edit")] == [True]


def test_the_patch_is_shown_when_the_documents_cannot_be_compared(dlq, fake):
    large, deep = json.dumps(["x" * 70000]), "[" * 400 + "]" * 400
    cases = [edited(0, before=large), {k: v for k, v in edited(0).items() if k not in ("before", "after")}, edited(0, after=deep), edited(0, before=None)]
    fake.expect("POST", "/v1/letters/edit", *[edit_answer(one) for one in cases])
    for _ in cases:
        assert dlq("edit", ID, "--set", "payload.c=0").out == f"{ID}\n  replace /payload/c 0\n1 letter edited\n"


def test_edit_asks_when_more_than_one_letter_would_change(fake):
    two, words = edit_answer(edited(0), edited(1)), ["edit", "-g", GROUP, "--set", "payload.c=0"]
    fake.expect("POST", "/v1/letters/edit", two)
    code, shown = on_terminal(fake, *words, answer=b"n\n")
    assert code == 1 and "Edit 2 letters? [y/N]" in shown and "nothing was edited" in shown
    assert "\x1b[31m-    " in shown and "\x1b[32m+    " in shown
    fake.expect("POST", "/v1/letters/edit", two, two)
    code, shown = on_terminal(fake, *words, answer=b"y\n")
    assert code == 0 and "2 letters edited" in shown and shown.count("@@ ") == 2
    assert [b.get("dryRun") for b in bodies(fake, "edit")] == [True, True, None]
    fake.expect("POST", "/v1/letters/edit", edit_answer(edited(0)), edit_answer(edited(0)), two)
    assert "Edit" not in on_terminal(fake, *words)[1] and bodies(fake, "edit")[-1].get("dryRun") is None  # it was one letter
    assert "Edit" not in on_terminal(fake, *words, "--yes")[1]


def editor(tmp_path, script):
    path = tmp_path / "editor.sh"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    return {"EDITOR": str(path), "VISUAL": ""}


@pytest.mark.parametrize("script, patch", [
    ("sed -i 's/1.10/1.20/' $1", [{"op": "test", "path": "/payload/n", "value": 1.1}, {"op": "replace", "path": "/payload/n", "value": 1.2}]),
    ("sed -i '/\"a\\/b~\"/d' $1", [{"op": "test", "path": "/payload/a~1b~0", "value": True}, {"op": "remove", "path": "/payload/a~1b~0"}]),
    ("sed -i 's/\"n\"/\"z\": {\"k\": []}, \"n\"/' $1", [{"op": "add", "path": "/payload/z", "value": {"k": []}}]),
    ("sed -i 's/\"y\"/\"Y\"/' $1", [{"op": "test", "path": "/payload/o/list", "value": ["x", "y"]},
                                    {"op": "replace", "path": "/payload/o/list", "value": ["x", "Y"]}]),
    ("echo '[]' > $1", None),
])
def test_an_editor_makes_the_patch(dlq, fake, tmp_path, script, patch):
    payload = '{"n": 1.10, "a/b~": true, "o": {"list": ["x","y"]}, "last": 9007199254740993000}'
    fake.expect("GET", "/v1/letters/" + ID, (200, lived(payload=payload)))
    fake.expect("POST", "/v1/letters/edit", edit_answer(edited(0)))
    dlq("edit", ID, env=editor(tmp_path, script))
    body = fake.requests[-1]["body"]
    if patch:
        assert json.loads(body) == {"ids": [ID], "patch": patch}
    else:
        assert json.loads(body)["patch"][1] == {"op": "replace", "path": "/payload", "value": []}
        assert b'"last":9007199254740993000' in body
    assert [p.name for p in tmp_path.iterdir()] == ["editor.sh"]


def test_an_editor_that_changes_nothing_or_fails_or_saves_no_json(dlq, fake, tmp_path):
    letters = [(200, lived())] * 3 + [(200, lived(redacted=True)), (200, lived(payload="plain")), (200, lived(payload=None, payloadBase64="/w=="))]
    fake.expect("GET", "/v1/letters/" + ID, *letters)
    assert "nothing was changed" in dlq("edit", ID, env=editor(tmp_path, "exit 0")).err
    assert "nothing was edited" in dlq("edit", ID, env=editor(tmp_path, "exit 3"), rc=1).err
    said = dlq("edit", ID, env=editor(tmp_path, "echo '{\"mine\": ' > $1"), rc=1).err
    kept = re.search(r"it is kept in (\S+);", said)[1]
    assert "not JSON" in said and pathlib.Path(kept).read_text() == '{"mine": \n'
    assert "--set" in dlq("edit", ID, env=editor(tmp_path, "touch $1"), rc=1).err
    assert "payload is not JSON" in dlq("edit", ID, env=editor(tmp_path, "touch $1"), rc=1).err
    assert "payload is not JSON" in dlq("edit", ID, env=editor(tmp_path, "touch $1"), rc=1).err
    assert fake.sent("POST", "/v1/letters/edit") == []


# ---- discard, restore, retry, purge -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command, member, state", [("discard", "discarded", None), ("restore", "restored", "discarded"), ("retry", "retried", "due")])
def test_changes_go_on_while_there_are_more(dlq, fake, command, member, state):
    fake.expect("POST", "/v1/letters/" + command, (200, {member: 1000, "more": True, "next": "c1", "refused": []}),
                (200, {member: 0, "more": True, "next": "c2", "refused": []}), (200, {member: 1, "more": False, "next": None, "refused": []}),
                (200, {member: 1, "more": False, "refused": []}))
    assert dlq(command, "--yes", "--group", "no-total").out == f"1001 letters {member}\n"
    want = {"group": "no-total", **({"state": state} if state else {})}
    assert bodies(fake, command) == [want, {**want, "cursor": "c1"}, {**want, "cursor": "c2"}]
    assert json.loads(dlq(command, ID, LETTER_IDS[1], "--json").out) == {member: 1, "refused": []}
    assert bodies(fake, command)[-1] == {"ids": [ID, LETTER_IDS[1]]}


def test_what_is_refused_is_said_with_its_why(dlq, fake):
    refused = [{"id": LETTER_IDS[i % 5], "state": "replaying", "why": "it is being replayed"} for i in range(30)]
    fake.expect("POST", "/v1/letters/discard", (200, {"discarded": 1, "more": True, "next": "c1", "refused": refused}),
                (200, {"discarded": 0, "more": False, "next": None, "refused": []}))
    done = dlq("discard", "--yes", "--all", "--why", "WEB-311", rc=1)
    assert done.out == "1 letter discarded\n"
    assert done.err.count("it is being replayed") == 20 and "and 10 more" in done.err
    assert bodies(fake, "discard") == [{"all": True, "why": "WEB-311"}, {"all": True, "why": "WEB-311", "cursor": "c1"}]


def test_changes_keep_to_their_limit_and_tell_what_was_done_before_a_failure(dlq, fake):
    fake.expect("POST", "/v1/letters/discard", (200, {"discarded": 1000, "more": True, "next": "c1"}), (200, {"discarded": 200, "more": True, "next": "c2"}),
                (200, {"discarded": 7, "more": True, "next": "c3"}), (503, error("Unavailable", "the store is away")))
    dlq("discard", "--yes", "--all", "--limit", "1200")
    assert [b["limit"] for b in bodies(fake, "discard")] == [1000, 200]
    done = dlq("discard", "--yes", "--all", rc=1)
    assert done.out == "7 letters discarded\n" and "the store is away" in done.err


def test_purge(dlq, fake):
    fake.expect("POST", "/v1/letters/purge", (200, {"purged": 5, "more": True, "next": "c1"}), (200, {"purged": 1, "more": False}), (200, {"purged": 0, "more": False}))
    assert dlq("purge", "--yes", "--older-than", "30d").out == "6 letters purged\n"
    dlq("purge", "--yes", "--older-than", "1h", "-f", "orders", "--dead")
    assert bodies(fake, "purge")[1:] == [{"all": True, "olderThanMs": 2592000000, "dead": False, "cursor": "c1"}, {"function": "orders", "olderThanMs": 3600000, "dead": True}]


def counted(*counts):
    """Answers to questions how many letters there are."""
    return [(200, {"letters": [letter(0)], "next": ID, "count": n}) for n in counts]


@pytest.mark.parametrize("words, counts, question", [
    (["discard", "-g", GROUP, "--where", "attempt > 3"], [39600, 40000],
     f"Discard letters of group {GROUP} where attempt > 3: 39,600 of 40,000 dead letters? [y/N]"),
    (["discard", "-g", GROUP, "--limit", "7"], [39600, 40000], f"Discard letters of group {GROUP}: 7 of 40,000 dead letters? [y/N]"),
    (["discard", "--all"], [1], "Discard all letters: 1 dead letter? [y/N]"), (["discard", ID, LETTER_IDS[1]], [], "Discard 2 letters? [y/N]"),
    (["restore", "-f", "orders", "--since", "2h"], [5, 900], "Restore letters of orders since 2h: 5 of 900 discarded letters? [y/N]"),
    (["retry", "-f", "orders"], [5, 5], "Retry letters of orders: 5 of 5 due letters? [y/N]"),
    (["purge", "--older-than", "30d", "-f", "orders"], [1000, 39600], "Delete letters of orders, older than 30d, for ever: 40,600 letters? [y/N]"),
    (["purge", "--older-than", "30d", "--dead"], [1, 0, 0], "Delete all letters, older than 30d, dead ones too, for ever: 1 letter? [y/N]")])
def test_it_asks_on_a_terminal(fake, words, counts, question):
    path = "/v1/letters/" + words[0]
    fake.expect("GET", "/v1/letters", *counted(*counts))
    code, shown = on_terminal(fake, *words, answer=b"n\n")
    assert code == 1 and question in plain(shown) and "nothing was" in shown and fake.sent("POST", path) == []
    fake.expect("POST", path, (200, {"more": False}), (200, {"more": False}))
    assert on_terminal(fake, *words, answer=b"y\n")[0] == 0 and len(fake.sent("POST", path)) == 1
    assert "[y/N]" not in on_terminal(fake, *words, "--yes")[1] and len(fake.sent("POST", path)) == 2


@pytest.mark.parametrize("words, done", [
    (["replay", "-g", GROUP, "--rate", "300/s"], "replayed"), (["discard", "-f", "orders"], "discarded"), (["restore", "--all"], "restored"),
    (["retry", "--all"], "retried"), (["edit", "-f", "orders", "--set", "payload.c=0"], "edited"),
    (["purge", "--older-than", "30d"], "purged")])
def test_without_a_terminal_nothing_is_done_unless_yes_was_said(dlq, fake, words, done):
    zero = [0] if words[0] == "purge" else []  # it asks for each state
    fake.expect("GET", "/v1/letters", *counted(39600, *zero, 1, *zero))
    for shown in (f"39,600 letters would be {done}", f"1 letter would be {done}"):
        said = dlq(*words, rc=2, input=b"y\n")
        assert said.err == f"weir: nothing is done without an answer: add --yes ({shown})\n" and said.out == ""
    assert all(r["method"] == "GET" for r in fake.requests)
    fake.expect("GET", "/v1/letters", *[(400, error("InvalidArgument", "where: column 1: no field 'x'"))] * 2)
    assert "column 1" in dlq(*words, rc=1).err


def test_a_path_that_no_letter_has_is_said_before_the_question(fake):
    def answer(request):
        asked = request["query"].get("where")
        return counted({None: 40000, "payload.coupn is not null": 0}.get(asked, 40000))[0]
    fake.expect("GET", "/v1/letters", *[answer] * 9)
    shown = plain(on_terminal(fake, "discard", "-w", "attempt > 1 and (payload.coupn is null)", answer=b"n\n")[1])
    assert "none of the dead letters has payload.coupn: is it spelled right?" in shown and ": 40,000 of 40,000 dead letters?" in shown
    assert "spelled" not in on_terminal(fake, "discard", "-w", "payload.coupon is null", answer=b"n\n")[1]


@pytest.mark.parametrize("words", [["discard", "--all"], ["purge", "--older-than", "30d"]])
def test_what_was_typed_before_the_question_is_no_answer(fake, words):
    code, shown = on_terminal(fake, *words, typed=b"y\n", answer=b"n\n")
    assert code == 1 and "nothing was" in shown and all(r["method"] == "GET" for r in fake.requests)


WAITS = "due > 0s and due < 9999-12-31"


def test_a_question_before_a_retry_counts_what_it_takes(fake):
    """None that is on its way, and none that was put off, unless that is asked for."""
    def answer(request):
        asked = request["query"].get("where", "")
        return counted(9 if WAITS not in asked else 5 if 'kind != "delayed"' in asked else 7)[0]
    def asked(*words):
        fake.expect("GET", "/v1/letters", *[answer] * 9)
        return plain(on_terminal(fake, *words, answer=b"n\n")[1])
    assert "Retry all letters: 5 due letters?" in asked("retry", "--all")
    assert "Retry letters where attempt = 1 or attempt = 2: 5 of 9 due letters?" in asked("retry", "-w", "attempt = 1 or attempt = 2")
    assert [r["query"].get("where") for r in fake.requests[-2:]] == [f'(attempt = 1 or attempt = 2) and {WAITS} and kind != "delayed"', None]
    assert ": 3 due letters?" in asked("retry", "--all", "--limit", "3")
    assert ": 7 of 9 due letters?" in asked("retry", "-w", 'kind = "delayed"')  # they are meant
    assert "Discard letters of orders: 9 of 9 due letters?" in asked("discard", "-f", "orders", "--state", "due")


def test_a_question_before_a_purge_counts_what_it_takes(fake):
    fake.expect("GET", "/v1/letters", *counted(2, 3, 4))
    shown = on_terminal(fake, "purge", "--older-than", "36h", "--dead", "-w", "attempt = 1 or attempt = 2", "--until", "2h", answer=b"n\n")[1]
    assert ", older than 36h, dead ones too, for ever: 9 letters?" in plain(shown)
    asked = [r["query"] for r in fake.requests]
    assert [(q["state"], q["where"]) for q in asked] == [(state, f"(attempt = 1 or attempt = 2) and {time} < 1d43200000ms") for state, time in (
        ("replayed", "changed"), ("discarded", "changed"), ("dead", "died"))]
    assert all("untilMs" in q for q in asked)


@pytest.mark.parametrize("words, question", [(["purge", "--older-than", "30d"], "Delete all letters, older than 30d, for ever? [y/N]"),
                                             (["discard", "-w", "payload.c = 3"], "Discard letters where payload.c = 3? [y/N]"),
                                             (["retry", "--all"], "Retry all letters? [y/N]")])
def test_a_count_that_takes_too_long_keeps_nobody_from_changing(dlq, fake, words, question):
    slow = (504, error("Timeout", "the letters were not found in 30 s: narrow the selection"))
    path = "/v1/letters/" + words[0]
    fake.expect("GET", "/v1/letters", slow, slow, slow)
    fake.expect("POST", path, (200, {"more": False}))
    code, shown = on_terminal(fake, *words, answer=b"y\n")
    assert code == 0 and question in plain(shown) and len(fake.sent("POST", path)) == 1
    fake.expect("GET", "/v1/letters", slow, slow)
    assert dlq(*words, rc=2).err == "weir: nothing is done without an answer: add --yes\n"


def test_one_letter_by_its_id_is_not_asked_about(fake):
    fake.expect("POST", "/v1/letters/discard", (200, {"discarded": 1, "more": False}))
    assert "[y/N]" not in on_terminal(fake, "discard", ID)[1]


def test_discarded_letters_are_listed_with_their_why(dlq, fake):
    gone = [{**letter(0), "state": "discarded", "why": "WEB-311"}, {**letter(1), "state": "discarded", "why": ""}]
    fake.expect("GET", "/v1/letters", (200, {"letters": gone, "next": None}), (200, {"letters": [gone[0], letter(1)], "next": None}))
    head, first, second = dlq("list", "--all", "--state", "discarded").out.splitlines()
    assert head.split()[-2:] == ["WHY", "AGE"] and first.split()[-2] == "WEB-311" and second.split()[-2] == "-"
    assert "WHY" not in dlq("list", "--state", "discarded").out
    assert "--all means all" in dlq("list", "--all", "-f", "orders", rc=2).err


def test_a_table_fits_the_terminal_by_its_error(fake):
    fake.expect("GET", "/v1/letters", *[(200, {"letters": [{**letter(0), "group": GROUP, "errorMessage": "x" * 200}], "next": None})] * 2)
    for columns in (110, 60):
        row = plain(on_terminal(fake, "list", size=(24, columns))[1]).splitlines()[1]
        assert len(row) <= max(columns, 105) and row.startswith(ID) and GROUP in row and "KeyError: x" in row and "…" in row


# ---- nothing found ----------------------------------------------------------------------------------------------------------


NOTHING = (200, {"letters": [], "next": None})


@pytest.mark.parametrize("command", ["list", "export", "groups"])
def test_a_function_that_is_not_there_is_no_all_clear(dlq, fake, command):
    fake.letters = []
    fake.expect("GET", "/v1/groups", *[(200, {"groups": [], "letters": 0, "more": False})] * 2)
    assert "weir: there is no function nosuch, nor a letter of it" in dlq(command, "-f", "nosuch", rc=1).err
    assert "there is no" not in dlq(command, "-f", "orders").err
    assert {r["query"].get("state") for r in fake.sent("GET", "/v1/letters")} >= {"dead", "due", "replaying", "replayed", "discarded"}


def test_letters_outlive_their_function(dlq, fake):
    fake.expect("GET", "/v1/letters", NOTHING, NOTHING, (200, {"letters": [letter(0)], "next": None}))
    assert dlq("list", "-f", "gone").err == "no dead letters\n"


def test_a_group_that_is_not_there_and_error_types_that_are(dlq, fake):
    fake.letters = []
    group = {"group": GROUP, "count": 300, "errorType": "KeyError"}
    assert "there is no group nosuch; weir dlq groups lists them" in dlq("list", "-g", "nosuch", rc=1).err
    assert json.loads(dlq("list", "-g", "nosuch", "--json", rc=1).out)["letters"] == []
    drained = dlq("list", "-g", GROUP).err
    assert f"there is no group {GROUP}, or not any more" in drained and "no dead letters" in drained
    fake.expect("GET", "/v1/groups/no-total", (200, group))
    assert dlq("list", "-g", "no-total").err == "no dead letters\n"
    groups = (200, {"groups": [group, {**group, "count": 100}, {**group, "errorType": "ValueError", "count": 3}], "letters": 403, "more": False})
    fake.expect("GET", "/v1/groups", groups, groups)
    assert "no dead letter has the error type keyerror; KeyError has 400, ValueError has 3\n" in dlq("list", "-E", "keyerror").err
    assert dlq("list", "-E", "KeyError", "--since", "1h").err == "no dead letters\n"


# ---- completion -------------------------------------------------------------------------------------------------------------


def completed(fake, *words, url=None):
    done = subprocess.run([WEIR, "completion", "words", "--", *words], env={**os.environ, "WEIR_SERVER": url or fake.url}, timeout=SECONDS,
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.split()


def test_names_of_functions_and_groups_are_completed(fake):
    assert completed(fake, "dlq", "list", "-f", "") == completed(fake, "dlq", "replay", "--to", "o") == completed(fake, "invoke", "o") == ["orders"]
    fake.expect("GET", "/v1/functions", (200, {"functions": [{"name": "a"}], "next": "a"}), (200, {"functions": [{"name": "b"}], "next": None}),
                (200, {"functions": [{"name": "a"}], "next": "a"}), (503, error("Unavailable", "the store is away")))
    assert completed(fake, "invoke", "") == ["a", "b"]
    assert [request["query"].get("cursor") for request in fake.requests[-2:]] == [None, "a"]
    assert completed(fake, "invoke", "") == ["a"]
    groups = {"groups": [{"group": GROUP, "name": "no-total"}, {"group": GROUP, "name": ""}, {"group": "x", "name": "$(touch here)"}]}
    fake.expect("GET", "/v1/groups", (200, groups), (200, groups), (401, error("Unauthorized", "no")))
    assert completed(fake, "dlq", "list", "--group", "") == completed(fake, "dlq", "group", "n") == ["no-total", GROUP]
    assert completed(fake, "dlq", "group", "n") == completed(fake, "dlq", "group", "n", url="http://127.0.0.1:1") == []
    for words in (["fn", "show"], ["fn", "versions"], ["fn", "use"], ["fn", "rollback"], ["fn", "delete"], ["logs"], ["trigger", "list"], ["dlq", "try", "--to"]):
        assert completed(fake, *words, "") == ["orders"]
    for words in (["fn", "rollback", "orders", "--to"], ["cron", "backfill", "report", "--to"], ["cron", "next", "report", "--to"], ["fn", "use", "orders"]):
        assert completed(fake, *words, "") == []
    assert completed(fake, "dlq", "discard", "0") == completed(fake, "dlq", "list", "--error", "") == []


# ---- policy -----------------------------------------------------------------------------------------------------------------


def policy(**more):
    return {"function": "orders", "keepMs": 30 * 86400000, "cap": 1000, "autoReplay": {"sample": 50, "rate": 100.0, "abortShare": 0.02},
            "changedMs": int(time.time() * 1000) - 6030000, "who": "ops", "dead": 950, "usedShare": 0.95, **more}


def test_policies_are_shown(dlq, fake):
    empty = policy(function="other", keepMs=None, cap=None, autoReplay=None, usedShare=None, dead=0)
    fake.expect("GET", "/v1/policies", (200, {"policies": [policy(), empty]}), (200, {"policies": []}), (200, {"policies": []}))
    head, first, second = dlq("policy").out.splitlines()
    assert head.split() == ["FUNCTION", "KEEP", "CAP", "DEAD", "USED", "ON", "DEPLOY", "CHANGED", "BY"]
    assert first.split() == ["orders", "30d", "1000", "950", "95%", "sample:50,rate:100/s,abort:2%", "100m", "ops"]
    assert second.split() == ["other", "-", "-", "0", "-", "-", "100m", "ops"]
    assert "no function has a policy" in dlq("policy").err and json.loads(dlq("policy", "--json").out) == {"policies": []}
    fake.expect("GET", "/v1/policies/orders", (200, policy()), (404, error("NotFound", "orders has no policy")))
    assert "sample:50" in dlq("policy", "orders").out and "has no policy" in dlq("policy", "orders", rc=1).err


def test_a_policy_is_changed_and_removed(dlq, fake):
    path = "/v1/policies/orders"
    fake.expect("PUT", path, *[(200, policy())] * 3)
    dlq("policy", "orders", "--auto-replay-on-deploy=sample:50,rate:100/s,abort:2%", "--keep", "30d", "--cap", "1000000")
    dlq("policy", "orders", "--keep", "none", "--cap", "none", "--no-auto-replay")
    dlq("policy", "orders", "--auto-replay-on-deploy", "rate:600/m")
    assert [json.loads(r["body"]) for r in fake.sent("PUT", path)] == [
        {"autoReplay": {"sample": 50, "rate": 100, "abortShare": 0.02}, "keepMs": 2592000000, "cap": 1000000},
        {"keepMs": None, "cap": None, "autoReplay": None}, {"autoReplay": {"rate": 10}}]
    fake.expect("DELETE", path, (200, {}))
    assert dlq("policy", "orders", "--remove").out == "orders has no policy any more\n"
