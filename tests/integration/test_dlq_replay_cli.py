# SPDX-License-Identifier: Apache-2.0
"""Replay, try, export, import and pull: the commands against a stand-in for the server."""
import base64
import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import time

import pytest

from fake_server import LETTER_IDS, FakeServer, error, letter, whole_letter

WEIR = os.environ.get("WEIR_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build/weir")
SECONDS = 60
GROUP = "5e1d00aa00bb00cc"


@pytest.fixture
def fake():
    server = FakeServer()
    yield server
    server.close()


def environment(fake):
    env = {**os.environ, "WEIR_SERVER": fake.url}
    env.pop("WEIR_TOKEN", None)
    return env


@pytest.fixture
def weir(fake, tmp_path):
    def run(*words, rc=0, **more):
        if isinstance(more.get("input"), str):
            more["input"] = more["input"].encode()
        more.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run([WEIR, *map(str, words)], env=environment(fake), cwd=tmp_path, timeout=SECONDS,
                              stderr=subprocess.PIPE, **more)
        done.out, done.err = ((text or b"").decode() for text in (done.stdout, done.stderr))
        assert done.returncode == rc, done.out + done.err
        return done
    return run


def replay(state="running", **more):
    return {"replay": 17, "state": state, "who": "ana", "selection": "letters of orders", "to": None, "toOrigin": False, "rate": 0,
            "rampMs": 0, "abortShare": None, "sample": 0, "inOrder": False, "createdMs": 1760000000000,
            "endedMs": None if state in ("running", "paused") else 1760000012000, "reason": "", "node": "n1", "total": 10,
            "pending": 10, "sent": 0, "skipped": 0, "failed": 0, "ok": 0, "failing": 0, "dead": 0, "perSecond": 0, "etaMs": None,
            **more}


ALL_OK = replay("done", pending=0, sent=10, ok=10)


def body_of(fake, path):
    return json.loads(fake.sent("POST", path)[-1]["body"])


def scripted(fake, created, *polls):
    """The last poll is answered for ever."""
    fake.expect("POST", "/v1/replays", (201, created))
    polls = list(polls)
    fake.expect("GET", "/v1/replays/17", *[lambda r: (200, polls.pop(0) if len(polls) > 1 else polls[0])] * 1000)


def wait_until(condition, seconds=SECONDS):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        select.select([], [], [], 0.01)


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, fake, *words):
        self.ours, theirs = pty.openpty()
        self.shown = b""
        self.process = subprocess.Popen([WEIR, *words], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
                                        start_new_session=True, env={**environment(fake), "TERM": "xterm", "NO_COLOR": "1"})
        os.close(theirs)

    def read(self):
        try:
            part = os.read(self.ours, 65536)
        except OSError:
            part = b""
        self.shown += part
        return part

    def until(self, text):
        while text.encode() not in self.shown:
            assert self.read(), self.shown
        return self.shown.decode()

    def end(self):
        while self.read():
            pass
        os.close(self.ours)
        return self.process.wait(SECONDS), self.shown.decode()


# ---- replay -----------------------------------------------------------------------------------------------------------------


def test_replay_follows_the_job_to_its_end(weir, fake):
    scripted(fake, replay(), replay(pending=5, sent=5, ok=2), replay("done", pending=0, sent=10, ok=9), ALL_OK)
    done = weir("dlq", "replay", "--yes", "--function", "orders")
    assert done.out == "replay 17 done after 12s: 10 of 10 letters sent\n  ok                   10\n"
    assert len(fake.sent("GET", "/v1/replays/17")) == 3
    assert body_of(fake, "/v1/replays") == {"function": "orders"}


def test_replay_says_it_all_to_the_server(weir, fake):
    scripted(fake, ALL_OK)
    weir("dlq", "replay", "--group", GROUP, "--where", "attempt >= 3", "--to", "orders:8", "--rate", "50/s", "--ramp", "30s",
         "--abort-if-failing", "5%", "--sample", "20", "--in-order", "--limit", "1000", "--yes")
    assert body_of(fake, "/v1/replays") == {"group": GROUP, "where": "attempt >= 3", "to": "orders:8", "rate": 50.0, "rampMs": 30000,
                                            "abortShare": 0.05, "sample": 20, "inOrder": True, "limit": 1000}
    scripted(fake, ALL_OK)
    weir("dlq", "replay", *LETTER_IDS[:2], "--to-origin", "--rate", "3000/m")
    assert body_of(fake, "/v1/replays") == {"ids": LETTER_IDS[:2], "toOrigin": True, "rate": 50.0}
    scripted(fake, ALL_OK)
    weir("dlq", "replay", "--yes", "--all", "--rate", "50", "--abort-if-failing", "0.05")
    assert body_of(fake, "/v1/replays") == {"all": True, "rate": 50.0, "abortShare": 0.05}


@pytest.mark.parametrize("words, said", [
    (["--rate", "fast"], "--rate"),
    (["--abort-if-failing", "5"], "it looks like 5% or 0.05"),
    (["--abort-if-failing", "0.0.5"], "it looks like 5% or 0.05"),
    (["--abort-if-failing", "-1%"], "it looks like 5%"),
    (["--ramp", "30s"], "give --rate too"),
    (["--to", "x", "--to-origin"], "give one of them"),
    (["--to-origin", "--sample", "3"], "--to-origin"),
])
def test_replay_wrong_use_changes_nothing(weir, fake, words, said):
    assert said in weir("dlq", "replay", "--yes", "--all", *words, rc=2).err
    assert fake.requests == []


def test_replay_reports_what_went_wrong(weir, fake):
    ended = replay("done", pending=0, sent=7, ok=4, dead=2, failing=1, skipped=2, failed=1)
    scripted(fake, replay(), ended)
    rows = {"skipped": [{"seq": 1, "id": LETTER_IDS[0], "state": "skipped", "eventId": None, "outcome": None, "why": "replay 16 sent it"}],
            "failed": [{"seq": 2, "id": LETTER_IDS[1], "state": "failed", "eventId": None, "outcome": None, "why": "no function 'x'"}],
            "dead": [{"seq": 3, "id": LETTER_IDS[2], "state": "sent", "eventId": LETTER_IDS[3], "outcome": "dead", "why": ""}],
            "failing": [{"seq": 4, "id": LETTER_IDS[2], "state": "sent", "eventId": LETTER_IDS[4], "outcome": "failing", "why": ""}]}
    fake.expect("GET", "/v1/replays/17/letters", *[lambda r: (200, {"letters": rows[r["query"]["state"]], "next": None})] * 8)
    fake.expect("GET", "/v1/letters", *[lambda r: (200, {"letters": [{**letter(3), "group": GROUP}] * 2, "next": None})] * 2)
    done = weir("dlq", "replay", "--yes", "--all", rc=1)
    for part in ["7 of 10 letters sent", "ok                    4", "failing again         3", "skipped               2", "not sent              1",
                 "replay 16 sent it", "no function 'x'", "KeyError: 'total'", "weir dlq list --group " + GROUP + "\n", "--state due\n"]:
        assert part in done.out, done.out
    asked = [r["query"] for r in fake.sent("GET", "/v1/letters")]
    assert [(q["where"], q["state"]) for q in asked] == [('id in ("%s")' % LETTER_IDS[4], "due"), ('id in ("%s")' % LETTER_IDS[3], "dead")]


def test_replay_does_not_wait_for_outcomes_that_stand_still(weir, fake):
    scripted(fake, replay(), replay("done", pending=0, sent=10, ok=7))
    began = time.monotonic()
    done = weir("dlq", "replay", "--yes", "--all", rc=1)
    assert time.monotonic() - began > 9
    assert "still running         3" in done.out
    assert "3 of its events have not come to an end: weir dlq replays --watch 17" in done.err


def test_replay_to_origin_waits_for_no_outcomes(weir, fake):
    scripted(fake, replay(), replay("done", pending=0, sent=10, toOrigin=True))
    weir("dlq", "replay", "--yes", "--all", "--to-origin")
    assert len(fake.sent("GET", "/v1/replays/17")) == 1


@pytest.mark.parametrize("state, said", [("aborted", "over 5% failed"), ("cancelled", ""), ("paused", "weir dlq resume 17")])
def test_replay_that_others_ended_is_not_a_success(weir, fake, state, said):
    scripted(fake, replay(), replay(state, pending=4, sent=6, ok=6, reason="over 5% failed"))
    done = weir("dlq", "replay", "--yes", "--all", rc=1)
    assert "replay 17 %s after" % state in done.out and "left                  4" in done.out and said in done.out + done.err


def test_replay_that_goes_on_after_a_pause_is_followed_on(weir, fake):
    scripted(fake, replay(), replay("paused", pending=4, sent=6, ok=5), replay(pending=2, sent=8, ok=6), ALL_OK)
    assert "10 of 10 letters sent" in weir("dlq", "replay", "--yes", "--all").out


def test_replay_detached(weir, fake):
    scripted(fake, replay())
    done = weir("dlq", "replay", "--yes", "--all", "--detach")
    assert done.out == "replay 17: 10 letters\n" and "--watch 17" in done.err
    assert fake.sent("GET", "/v1/replays/17") == []


def test_replay_as_json(weir, fake):
    scripted(fake, replay(), replay("done", pending=0, sent=9, ok=9, skipped=1))
    fake.expect("GET", "/v1/replays/17/letters", (200, {"letters": [{"id": LETTER_IDS[0], "why": "w"}], "next": None}))
    done = weir("dlq", "replay", "--yes", "--all", "--json", rc=1)
    shown = json.loads(done.out)
    assert (shown["replay"], shown["sent"], shown["letters"]) == (17, 9, {"skipped": [{"id": LETTER_IDS[0], "why": "w"}]})


def test_replay_survives_a_server_that_is_away(weir, fake):
    """A broken connection and errors of a server that starts; then it goes on."""
    def broken(request):
        return 200, b"x", {"Content-Length": "1000", "Connection": "close"}
    scripted(fake, replay(), replay(pending=5, sent=5))
    fake.expect("GET", "/v1/replays/17", broken, (503, error("Unavailable", "the store is away")), (200, b"<html>"), (200, ALL_OK))
    fake.script["GET", "/v1/replays/17"].pop(2)
    done = weir("dlq", "replay", "--yes", "--all")
    assert "10 of 10 letters sent" in done.out and done.err == ""


def test_replay_that_is_gone_is_said(weir, fake):
    fake.expect("POST", "/v1/replays", (201, replay()))
    assert "there is no such thing" in weir("dlq", "replay", "--yes", "--all", rc=1).err


def test_replay_refused_by_the_server(weir, fake):
    fake.expect("POST", "/v1/replays", (400, error("InvalidArgument", "where: column 17: a value is missing")))
    assert "where: column 17: a value is missing" in weir("dlq", "replay", "--yes", "--where", "payload.a = ", rc=1).err


def test_replay_ctrl_c_leaves_it_running(fake, tmp_path):
    scripted(fake, replay(), replay(pending=5, sent=5))
    p = subprocess.Popen([WEIR, "dlq", "replay", "--yes", "--all"], env=environment(fake), cwd=tmp_path, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: len(fake.sent("GET", "/v1/replays/17")) > 1)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=SECONDS)
    assert p.returncode == 1 and out == b""
    for part in [b"replay 17 goes on", b"weir dlq replays --watch 17", b"weir dlq pause 17", b"weir dlq cancel 17"]:
        assert part in err
    assert {(r["method"], r["path"]) for r in fake.requests} == {("POST", "/v1/replays"), ("GET", "/v1/replays/17")}


def test_replay_on_a_terminal_shows_groups_asks_and_draws_a_bar(fake):
    two = {"letters": [{**letter(0), "group": GROUP}, {**letter(1), "group": GROUP}], "next": None}
    fake.expect("GET", "/v1/letters", *[(200, {**two, "count": n}) for n in (2, 2, 40000)])
    scripted(fake, replay(), replay(pending=1, sent=5, ok=4, dead=1, skipped=3, failed=1, perSecond=48.4, etaMs=12000), ALL_OK)
    t = Terminal(fake, "dlq", "replay", "--function", "orders")
    t.until("looking")
    os.write(t.ours, b"n\n")  # too early to be the answer
    t.until("[y/N]")
    assert fake.sent("POST", "/v1/replays") == []
    os.write(t.ours, b"y\n")
    code, shown = t.end()
    assert code == 0
    for part in ["2 letters in 1 group", GROUP, "Replay letters of orders: 2 of 40,000 dead letters? [y/N]",
                 "replay 17 [##########----------] 5/10 sent, 3 skipped, 1 not sent  48/s  4 ok", "10 of 10 letters sent"]:
        assert part in shown, shown


def test_replay_on_a_terminal_takes_no_for_an_answer(fake):
    fake.expect("GET", "/v1/letters", (200, {"letters": [letter(0)], "next": None}))
    t = Terminal(fake, "dlq", "replay", "--function", "orders")
    t.until("[y/N]")
    os.write(t.ours, b"n\n")
    code, shown = t.end()
    assert code == 1 and "nothing was replayed" in shown and fake.sent("POST", "/v1/replays") == []


def test_replay_dry_run_only_lists(weir, fake):
    done = weir("dlq", "replay", "--function", "orders", "--dry-run")
    assert done.out.endswith("2 letters would be replayed\n") and LETTER_IDS[1] in done.out
    fake.expect("GET", "/v1/letters", *[(200, {"letters": [letter(0)] * 50, "next": "c", "count": 39600})] * 2)
    assert weir("dlq", "replay", "--all", "--dry-run").out.endswith("\n… and 39550 more\n39600 letters would be replayed\n")
    assert [r["query"]["limit"] for r in fake.sent("GET", "/v1/letters")[-2:]] == ["50", "1"]
    assert weir("dlq", "replay", LETTER_IDS[3], "--dry-run").out.endswith("1 letter would be replayed\n")
    assert {r["method"] for r in fake.requests} == {"GET"}


# ---- replays, pause, resume, cancel -----------------------------------------------------------------------------------------


def test_replays_lists_shows_and_watches(weir, fake):
    fake.expect("GET", "/v1/replays", (200, {"replays": [replay(sent=3, ok=2, dead=1)], "next": "16"}))
    done = weir("dlq", "replays", "--open")
    assert done.out.splitlines()[1].split()[:6] == ["17", "running", "3/10", "2", "1", "ana"] and "there are more" in done.err
    assert fake.requests[-1]["query"] == {"open": "true", "limit": "50"}
    shown = replay("aborted", to="orders:8", rate=50, rampMs=30000, sample=20, abortShare=0.05, inOrder=True, reason="too many fail",
                   sent=9, skipped=1, ok=9, pending=0)
    fake.expect("GET", "/v1/replays/17", (200, shown))
    fake.expect("GET", "/v1/replays/17/letters", (200, {"letters": [{"id": LETTER_IDS[0], "why": "replay 16 sent it"}], "next": None}))
    out = weir("dlq", "replays", "17").out
    for part in ["too many fail", "orders:8", "50/s, reached after 30s, a sample of 20 first, aborts when over 5% fail, in order\n",
                 "letters of orders", "9 of 10", "Skipped: not dead any more (1)", "replay 16 sent it"]:
        assert part in out, out
    fake.expect("GET", "/v1/replays/17", (200, replay("done", pending=0, sent=10, ok=8, dead=2)))
    sent = [{"id": LETTER_IDS[n], "eventId": LETTER_IDS[n + 2], "why": ""} for n in (0, 1)]
    fake.expect("GET", "/v1/replays/17/letters", (200, {"letters": sent, "next": None}))
    fake.expect("GET", "/v1/letters", (200, {"letters": [{**letter(2), "errorMessage": "'tax'"}], "next": None})) # the other one is gone
    first, second = weir("dlq", "replays", "17").out.splitlines()[-2:]
    assert first.split() == [LETTER_IDS[0], LETTER_IDS[2], "KeyError:", "'tax'"] and second.split() == [LETTER_IDS[1], LETTER_IDS[3], "-"]
    scripted(fake, None, replay(sent=3), ALL_OK)
    assert "10 of 10" in weir("dlq", "replays", "--watch", "17").out
    assert "not the number of a replay" in weir("dlq", "replays", "x", rc=2).err


@pytest.mark.parametrize("verb, state", [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")])
def test_replays_are_steered(weir, fake, verb, state):
    fake.expect("POST", "/v1/replays/17/" + verb, (200, replay(state, sent=4)), (409, error("Conflict", "replay 17 has ended (done)")))
    assert weir("dlq", verb, "17").out == "replay 17 is %s: 4 of 10 letters sent\n" % state
    assert "replay 17 has ended" in weir("dlq", verb, "17", rc=1).err
    assert "not the number" in weir("dlq", verb, "../x", rc=2).err


# ---- try --------------------------------------------------------------------------------------------------------------------


def tried(i, verdict, **more):
    return {"id": LETTER_IDS[i], "function": "orders", "version": 8, "outcome": "ok" if verdict == "passes" else "error", "durationMs": 12,
            "result": '{"n":1}' if verdict == "passes" else None, "errorType": "", "errorMessage": "", "stack": "", "log": "",
            "group": GROUP, "verdict": verdict, **more}


def test_try_shows_what_changed(weir, fake):
    results = [tried(0, "passes"), tried(1, "same", errorType="KeyError", errorMessage="'total'"),
               tried(2, "other", errorType="TypeError", errorMessage="None"), tried(3, "not-run", errorMessage="no process")]
    fake.expect("POST", "/v1/letters/try", (200, {"tried": 4, "passed": 1, "failed": 2, "notRun": 1, "results": results}))
    lines = weir("dlq", "try", "--group", GROUP, "--sample", "4", "--to", "orders:8", rc=1).out.splitlines()
    assert body_of(fake, "/v1/letters/try") == {"group": GROUP, "sample": 4, "to": "orders:8"}
    assert lines[1].split()[:4] == [LETTER_IDS[0], "orders:8", "passes", "12ms"] and lines[1].endswith("KeyError: 'total'… -> {\"n\":1}")
    assert lines[2].endswith("  KeyError: 'total'") and lines[3].endswith("KeyError: 'total'… -> TypeError: None")
    assert lines[-1] == "1 of 4 pass; 1 fails as before; 1 fails otherwise; 1 was not run"


def test_try_all_pass(weir, fake):
    fake.expect("POST", "/v1/letters/try", (200, {"results": [tried(0, "passes", log="got an order\n")]}))
    out = weir("dlq", "try", LETTER_IDS[0]).out
    assert out.endswith("Log\n  got an order\n\n1 of 1 passes\n") and body_of(fake, "/v1/letters/try") == {"ids": [LETTER_IDS[0]]}
    fake.expect("POST", "/v1/letters/try", (200, {"results": []}), (200, {"results": [tried(0, "same")]}))
    assert "no dead letters match" in weir("dlq", "try", "--all", rc=1).err
    assert json.loads(weir("dlq", "try", "--all", "--json", rc=1).out)["results"][0]["verdict"] == "same"
    assert "1 to 200" in weir("dlq", "try", "--all", "--sample", "201", rc=2).err
    assert "--sample" in weir("dlq", "try", "--all", "--limit", "3", rc=2).err


# ---- export and import ------------------------------------------------------------------------------------------------------

HARD = ['{"n":123456789012345678901234567890.10e5}', "a\x00b\u2028\ud7ff\x7f", '"\\ud800 \\u0000"', "", "\n\r\n", '{"a":1,"a":2}']


def hard_letters():
    texts = [{**whole_letter(0), "id": "t%d" % i, "payload": text} for i, text in enumerate(HARD)]
    binary = {**whole_letter(0), "id": "b", "payloadBase64": base64.b64encode(bytes(range(256))).decode()}
    del binary["payload"]
    return texts + [binary]


def test_export_and_import_keep_every_byte(weir, fake, tmp_path):
    letters = hard_letters()
    fake.expect("GET", "/v1/letters", (200, {"letters": letters[:3], "next": "c/1 &"}), (200, {"letters": letters[3:], "next": None}))
    with open(tmp_path / "l.ndjson", "wb") as f:
        done = weir("dlq", "export", "--function", "orders", stdout=f)
    assert done.err == "7 letters exported\n"
    assert [r["query"] for r in fake.requests] == [
        {"function": "orders", "order": "oldest", "full": "true", "limit": "500", **more} for more in ({}, {"cursor": "c/1 &"})]
    lines = (tmp_path / "l.ndjson").read_bytes().split(b"\n")
    assert [json.loads(line) for line in lines[:-1]] == letters and lines[-1] == b""
    fake.expect("POST", "/v1/letters/import", (200, {"imported": 7, "there": 0, "refused": []}), (200, {"imported": 0, "there": 1, "refused": []}))
    assert weir("dlq", "import", "l.ndjson").out == "7 letters imported\n"
    assert body_of(fake, "/v1/letters/import") == {"letters": letters}
    assert weir("dlq", "import", "l.ndjson").out == "0 letters imported, 1 was there already\n"


def test_export_leaves_a_vendors_json_as_it_is(weir, fake):
    vendor = b'{"requestPayload":{"n":123456789012345678901234567890.10,\n"m":1e5},"x":"a\\nb]}\\""}'
    fake.expect("GET", "/v1/letters", (200, b'{"letters":[' + vendor + b"," + vendor + b'],\n"next":null}'))
    done = weir("dlq", "export", "--as", "lambda", "--limit", "2")
    assert done.out.encode() == (vendor.replace(b"\n", b"") + b"\n") * 2
    assert fake.requests[-1]["query"] == {"order": "oldest", "full": "true", "as": "lambda", "limit": "2"}


def test_export_stops_at_its_limit_and_counts_masked_ones(weir, fake):
    page = (200, {"letters": [{**whole_letter(i), "redacted": i > 0} for i in range(3)], "next": "c"})
    fake.expect("GET", "/v1/letters", page, page)
    done = weir("dlq", "export", "--limit", "5")
    assert len(done.out.splitlines()) == 5 and [r["query"]["limit"] for r in fake.requests] == ["5", "2"]
    assert "letters are masked" in done.err and "cannot be imported" in done.err


def test_export_says_when_stdout_is_full(weir, fake):
    for page in ({"letters": hard_letters() * 100, "next": "c"}, {"letters": [{"id": "small"}], "next": None}):
        fake.requests.clear()
        fake.expect("GET", "/v1/letters", (200, page))
        with open("/dev/full", "wb") as full:
            done = weir("dlq", "export", rc=1, stdout=full)
        assert "stdout: No space left on device" in done.err and "the export is not complete" in done.err
        assert len(fake.requests) == 1


def test_export_says_what_a_broken_server_left(weir, fake):
    fake.expect("GET", "/v1/letters", (200, {"letters": hard_letters(), "next": "c"}), (200, b'{"letters":[{"id"'))
    done = weir("dlq", "export", rc=1)
    assert "not a page of letters" in done.err and "ended after 7 letters" in done.err
    fake.expect("GET", "/v1/letters", (400, error("InvalidArgument", "where: column 1: no field 'x'")))
    assert "column 1: no field" in weir("dlq", "export", "--where", "x", rc=1).err


def test_import_goes_on_after_bad_lines(weir, fake):
    good = [json.dumps(letter) for letter in hard_letters()]
    lines = [good[0], "{broken", good[1], "", "[1]", "7", good[2], '{"id":1} {"id":2}', good[3]]
    fake.expect("POST", "/v1/letters/import", (200, {"imported": 2, "refused": [
        {"line": 2, "id": "t1", "why": "there is a letter with this id"}, {"line": 4, "id": "t3", "why": "it was masked"}]}))
    done = weir("dlq", "import", "-", rc=1, input="\n".join(lines))
    assert done.out == "2 letters imported, 6 refused\n"
    assert body_of(fake, "/v1/letters/import") == {"letters": [json.loads(line) for line in good[:4]]}
    for part in ["line 2: ", "line 3: t1: there is a letter", "line 5: not a letter", "line 6: not a letter", "line 8: ", "line 9: t3: it was masked"]:
        assert part in done.err, done.err


def test_import_of_what_cannot_be_read(weir, fake, tmp_path):
    done = weir("dlq", "import", ".", rc=1)
    assert ".: after line 0: Is a directory" in done.err and done.out == "0 letters imported\n", done
    assert fake.requests == []


def test_import_sends_batches(weir, fake):
    answer = lambda r: (200, {"imported": len(json.loads(r["body"])["letters"]), "refused": []})
    fake.expect("POST", "/v1/letters/import", *[answer] * 10)
    line = json.dumps(whole_letter(0))
    assert weir("dlq", "import", "-", input="\n".join([line] * 2500)).out == "2500 letters imported\n"
    assert [len(json.loads(r["body"])["letters"]) for r in fake.requests] == [999, 999, 502]
    fake.requests.clear()
    big = json.dumps({**whole_letter(0), "payload": "x" * 15_000_000})
    weir("dlq", "import", "-", input="\n".join([big] * 3))
    assert [len(json.loads(r["body"])["letters"]) for r in fake.requests] == [2, 1]
    assert max(len(r["body"]) for r in fake.requests) < 33 << 20


def test_import_finds_the_line_for_which_a_request_is_refused(weir, fake):
    """A server that refuses the request as a whole: everything else gets in."""
    def answer(request):
        ids = [one["id"] for one in json.loads(request["body"])["letters"]]
        return (400, error("InvalidArgument", "no")) if {17, 1500} & set(ids) else (200, {"imported": len(ids), "refused": []})
    fake.expect("POST", "/v1/letters/import", *[answer] * 100)
    done = weir("dlq", "import", "-", rc=1, input="\n".join('{"id":%d}' % i for i in range(1, 2001)))
    assert done.out == "1998 letters imported, 2 refused\n" and "line 17: no" in done.err and "line 1500: no" in done.err
    taken = [one["id"] for r in fake.requests if answer(r)[0] == 200 for one in json.loads(r["body"])["letters"]]
    assert taken == [i for i in range(1, 2001) if i not in (17, 1500)]


def test_import_refuses_a_line_that_is_too_long(weir, fake):
    fake.expect("POST", "/v1/letters/import", (200, {"imported": 1, "refused": []}))
    done = weir("dlq", "import", "-", rc=1, input='{"a":"' + "x" * (24 << 20) + '"}\n{"id":1}\n')
    assert "line 1: over 24 MiB" in done.err and body_of(fake, "/v1/letters/import") == {"letters": [{"id": 1}]}


def test_import_waits_for_a_busy_server_and_stops_at_a_wrong_one(weir, fake):
    fake.expect("POST", "/v1/letters/import", (503, error("Unavailable", "the store is away")), (200, {"imported": 1, "refused": []}))
    assert weir("dlq", "import", "-", input='{"id":1}').out == "1 letter imported\n"
    fake.expect("POST", "/v1/letters/import", (401, error("Unauthorized", "no token")))
    done = weir("dlq", "import", "-", rc=1, input='{"id":1}\n{"id":2}')
    assert "lines 1 to 2: no token" in done.err and "run it again" in done.err
    assert "No such file" in weir("dlq", "import", "nothing.ndjson", rc=1).err


# ---- pull -------------------------------------------------------------------------------------------------------------------


def test_pull_writes_a_case(weir, fake):
    case = json.loads(weir("dlq", "pull", LETTER_IDS[0]).out)
    assert case["letter"] == LETTER_IDS[0] and case["event"]["payload"] == {"n": 1}
    assert (case["function"]["runtime"], case["function"]["handler"]) == ("python", "orders.main_handler")
    assert [r["path"] for r in fake.requests] == ["/v1/letters/" + LETTER_IDS[0], "/v1/functions/orders"]


def test_pull_without_the_function_and_with_masks(weir, fake):
    fake.expect("GET", "/v1/functions/orders", (404, error("NotFound", "no")))
    fake.expect("GET", "/v1/letters/" + LETTER_IDS[0], (200, {**whole_letter(0), "redacted": True}))
    done = weir("dlq", "pull", LETTER_IDS[0])
    assert "no function 'orders' any more" in done.err and "masked" in done.err and json.loads(done.out)["event"]["payload"] == {"n": 1}
    fake.expect("GET", "/v1/functions/orders", (500, error("InternalError", "broken")))
    assert "function 'orders': broken" in weir("dlq", "pull", LETTER_IDS[0], rc=1).err
    with open("/dev/full", "wb") as full:
        assert "No space left" in weir("dlq", "pull", LETTER_IDS[0], rc=1, stdout=full).err


# ---- help -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["replay", "replays", "pause", "resume", "cancel", "try", "export", "import", "pull"])
def test_help_has_an_example(weir, command):
    assert "\n  weir dlq %s" % command in weir("dlq", command, "--help").out
