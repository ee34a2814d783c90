# SPDX-License-Identifier: Apache-2.0
"""What dead letters promise, on a running server: one of three who change a letter wins, payloads stay what they are, secrets stay
secret, keys stay in order, policies do what they say, and a try leaves no trace."""
import hashlib
import json
import random
import re
import threading
import time

import pytest

from dlq_api import bring, whole
from load import FUNCTION, bury, mend, sql, wait_idle
from pipeline import ALONE, HANDLER, MENDED, Journal, Line, add, deploy, record, wait_letters
from waiting import stays, wait_until

# ---- edit, replay and discard at once ------------------------------------------------------------------------------------

SHOWS = """
import json
from collect import tell

def main_handler(event, context):
    tell("ran", event["n"], json.dumps(event["parts"]).replace(" ", ""))
"""
ROUNDS = 60


def three_at_once(server, id, n):
    """{what: (status, answer)} of an edit, a replay and a discard that come at the same time."""
    edit = {"ids": [id], "set": {"payload.parts": ["new", "new"]}, "why": "three at once"}
    calls = {"edit": ("/v1/letters/edit", edit), "replay": ("/v1/replays", {"ids": [id]}),
             "discard": ("/v1/letters/discard", {"ids": [id], "why": "three at once"})}
    order = list(calls)
    random.Random(n).shuffle(order)
    answers, barrier = {}, threading.Barrier(len(order))

    def call(what):
        barrier.wait(30)
        answers[what] = server.http("POST", *calls[what])[::2]
    threads = [threading.Thread(target=call, args=(what,)) for what in order]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_of_an_edit_a_replay_and_a_discard_one_wins(serve, backend, collector):
    server = serve({"sandbox": "none"}, backend=backend)
    ids = bury(server, backend, ROUNDS, lambda n: {"n": n, "parts": ["old", "old"]})
    mend(server, SHOWS)
    wins = {"replayed": 0, "discarded": 0}
    for n, id in enumerate(ids):
        answers = three_at_once(server, id, n)
        status, job = answers["replay"]
        if status == 201:
            job = server.wait_replay(job["replay"], outcomes=True)
        letter = server.letter(id)
        wins[letter["state"]] += 1
        edited = answers["edit"][1]["edited"] == 1
        assert answers["edit"][0] == answers["discard"][0] == 200 and status in (201, 409), answers
        assert edited or answers["edit"][1]["refused"][0]["why"], "who lost is told"
        assert letter["edited"] == edited and [edit["revision"] for edit in letter["edits"]] == ([1] if edited else [])
        parts = ["new", "new"] if edited else ["old", "old"]
        assert json.loads(letter["payload"])["parts"] == parts
        ran = [words[2] for words in collector.about("ran") if words[1] == str(n)]
        if letter["state"] == "replayed":
            assert ran == [json.dumps(parts).replace(" ", "")], "what ran is what the letter says"
            assert answers["discard"][1]["discarded"] == 0 and answers["discard"][1]["refused"][0]["why"]
        else:
            assert ran == [] and answers["discard"][1]["discarded"] == 1
            assert status == 409 or (job["sent"], job["skipped"]) == (0, 1), (status, job)
    print(f"\n{wins}")


# ---- payloads ------------------------------------------------------------------------------------------------------------

DIGESTS = '''#!/usr/bin/env python3
import hashlib, os, sys
from collect import tell
data = sys.stdin.buffer.read()
tell("got", hashlib.sha256(data).hexdigest(), len(data))
sys.exit(0 if os.path.exists(os.environ["MENDED"]) else 3)
'''
AWFUL = {
    "6 MB": ("application/json", b'{"a":"' + b"x" * (6 * 1024 * 1024 - 8) + b'"}'),
    "binary": ("application/octet-stream", bytes(range(256)) * 40),
    "nothing but zeros": ("application/octet-stream", bytes(1000)),
    "invalid UTF-8": ("application/json", b'{"name":"\xff\xfe\xc0\x80","n":1}'),
    "a lone surrogate": ("application/json", b'{"name":"\\ud800"}'),
    "100 levels": ("application/json", b'{"a":' * 100 + b"1" + b"}" * 100),
    "10,000 levels": ("application/json", b"[" * 10000 + b"]" * 10000),
    "1e400": ("application/json", b'{"n":1e400,"m":-1E+400,"z":-0.0}'),
    "30 digits": ("application/json", b'{"id":123456789012345678901234567890,"x":0.1234567890123456789012345678901}'),
    "zeros behind": ("application/json", b'{"price":1.10000,"whole":100.0,"e":1E2}'),
    "members twice": ("application/json", b'{"a":1,"a":2,"b":{"c":1,"c":2}}'),
    "NUL in a text": ("application/json", b'{"a":"x\\u0000y","\\u0000":1}'),
    "odd spaces": ("application/json", b' {\n"a" :\t1 , "b":[ ] }\r\n'),
    "half an object": ("application/json", b'{"a":'),
    "a mark of order": ("application/json", b'\xef\xbb\xbf{"a":1}'),
    "empty": ("text/plain", b""),
}


def digest(data):
    return hashlib.sha256(data).hexdigest()


def deploy_digests(server, folder):
    server.deploy("digests", {"run": DIGESTS}, runtime="exec", handler="run", retries=0, memoryMb=256,
                  env={"MENDED": str(folder / "mended"), "PYTHONDONTWRITEBYTECODE": "1"})


def cli(server, *words, code=0, **more):
    done = server.cli("dlq", *words, **more)
    assert done.returncode == code, f"{words}: {done.returncode} {done.stdout[-500:]} {done.stderr[-1000:]}"
    return done.stdout


def look_at_all_of_it(server, id, data):
    """list, show, --payload."""
    assert id[:13] in cli(server, "list", "--function", "digests")
    assert "digests" in cli(server, "show", id)
    shown = server.letter(id)
    assert shown["payloadBytes"] == len(data)
    if "payload" in shown:
        assert shown["payload"].encode() == data


@pytest.mark.short
def test_awful_payloads_stay_what_they_are(serve, backend, collector, folder):
    """They die, are looked at, edited (a header), tried, exported, purged, imported and replayed: byte for byte."""
    server = serve({"sandbox": "none"}, backend=backend)
    deploy_digests(server, folder)
    ids = {name: server.send("digests", data, headers={"Content-Type": kind}) for name, (kind, data) in AWFUL.items()}
    server.wait_letters(len(AWFUL), 60)
    for name, id in ids.items():
        look_at_all_of_it(server, id, AWFUL[name][1])
    where = ["--where", "payload.a = 1 or payload.n > 5 or payload.price = 1.1 or headers.x = \"y\""]
    found = {each["id"] for each in json.loads(cli(server, "list", *where, "--json"))["letters"]}
    assert {ids["zeros behind"], ids["odd spaces"]} <= found, "JSON that can be asked is asked"
    for name, id in ids.items():
        cli(server, "edit", id, "--set", 'headers.x="y"', "--why", name)
    tried = json.loads(cli(server, "try", *ids.values(), "--json", code=1))
    assert tried["failed"] == len(AWFUL), tried
    exported = folder / "letters.ndjson"
    done = server.cli("dlq", "export", "--all")
    assert done.returncode == 0, done.stderr
    exported.write_text(done.stdout)
    assert len(done.stdout.splitlines()) == len(AWFUL)
    status, _, answer = server.http("POST", "/v1/letters/purge", {"all": True, "dead": True, "olderThanMs": 0})
    assert (status, answer["purged"]) == (200, len(AWFUL)) and server.letters() == []
    cli(server, "import", exported)
    assert {letter["id"] for letter in server.letters()} == set(ids.values())
    collector.clear()
    (folder / "mended").touch()
    job = server.replay(all=True, outcomes=True)
    assert (job["sent"], job["ok"]) == (len(AWFUL), len(AWFUL)), (job, server.letters())
    got = sorted((words[1], int(words[2])) for words in collector.about("got"))
    assert got == sorted((digest(data), len(data)) for _, data in AWFUL.values())


# ---- SQL in options ------------------------------------------------------------------------------------------------------

SQL_TEXTS = ["'; DROP TABLE letters; --", "' OR '1'='1", "\\'; DELETE FROM letters; --", "x\" OR 1=1) --"]


@pytest.mark.short
def test_sql_in_options_is_only_text(serve, backend):
    server = serve({"sandbox": "none"}, backend=backend)
    ids = bury(server, backend, 3)

    def everything():
        return sorted((letter["id"], letter["state"], letter["payload"]) for letter in server.letters(full="true"))
    before = everything()
    for text in SQL_TEXTS:
        literal = json.dumps(text, ensure_ascii=False)
        for words in (["--function", text], ["--error", text], ["--group", text], ["--source", text], ["--search", text],
                      ["--where", text], ["--where", f"payload.{literal} = {literal}"], ["--where", f"error contains {literal}"],
                      ["--since", text], ["--until", text], ["--state", text], ["--limit", text]):
            for verb in (["list", "--json"], ["discard", "--yes", "--why", text], ["replay", "--yes"], ["edit", "--set", "payload.x=1", "--yes"]):
                if words[0] == "--state" and verb[0] in ("replay",):
                    continue
                done = server.cli("dlq", *verb, *words)
                if done.returncode == 0 and verb[0] == "list":
                    assert json.loads(done.stdout)["letters"] == [], (verb, words, done.stdout)
                assert done.returncode in (0, 1, 2) and "SQL" not in done.stderr and "syntax error" not in done.stderr, (verb, words, done)
        for words in (["show", text], ["replays", "show", text], ["groups", "--function", text], ["policy", text], ["replay", text, "--yes"],
                      ["replay", "--all", "--to", text, "--yes"], ["purge", "--older-than", text], ["export", "--where", text]):
            done = server.cli("dlq", *words)
            assert done.returncode in (0, 1, 2) and "syntax error" not in done.stderr, (words, done)
    assert everything() == before and len(before) == len(ids)


# ---- what a question says ------------------------------------------------------------------------------------------------


def said_and_done(server, *words):
    """How many letters a question says, and how many were changed."""
    said = server.cli("dlq", *words).stderr
    done = server.cli("dlq", *words, "--yes").stdout
    return int(re.search(r"\((\d+) letters? would be ", said)[1]), int(done.split()[0])


def test_a_question_counts_the_letters_that_are_taken(serve, backend):
    server = serve(backend=backend)
    server.deploy("orders", "def main_handler(event, context): return event")
    due_ms = time.time_ns() // 1000000 + 7200000
    ids = [server.send("orders", {}, runAt=due_ms) for _ in range(5)]
    for id, columns in ((ids[0], f"due_ms = 1, lease_ms = {due_ms}"), (ids[1], "due_ms = 253402300799000")):  # on its way; behind another fire
        where = f"X'{id}'" if backend.embedded else f"'\\x{id}'"
        sql(server, backend, f"UPDATE letters SET {columns} WHERE id = {where.replace('-', '')}")
    for words, count in ((["--all"], 0), (["-w", "attempt = 0 or attempt >= 0"], 0), (["-w", 'kind = "delayed"'], 3)):
        assert said_and_done(server, "retry", *words) == (count, count), words
    wait_until(lambda: len(server.letters(state="due")) == 2, 20, "the others ran")
    assert "weir: column 3: there is no field nosuch" in server.cli("dlq", "retry", "-w", "  nosuch = 1").stderr


def test_a_question_counts_the_letters_that_are_purged(serve, backend):
    server = serve(backend=backend)
    bring(server, [whole(n) for n in range(9)])
    assert server.cli("dlq", "discard", "-w", "payload.n < 5", "--yes").stdout == "5 letters discarded\n"
    for words, count in ((["--older-than", "30d", "--dead"], 0), (["--older-than", "1ms", "-w", "payload.n = 0 or payload.n = 8"], 1),
                         (["--older-than", "1ms", "--dead", "-w", "payload.n = 1 or payload.n = 8"], 2), (["--older-than", "1ms"], 3),
                         (["--older-than", "1ms", "--dead", "--until", "1h"], 0), (["--older-than", "1ms", "--dead"], 3)):
        assert said_and_done(server, "purge", *words) == (count, count), words
    assert "weir: column 3: there is no field nosuch" in server.cli("dlq", "purge", "--older-than", "1ms", "-w", "  nosuch = 1").stderr


# ---- secrets -------------------------------------------------------------------------------------------------------------

SECRETS = ["hunter2-hunter2", "4111111111111111", "Bearer-of-a-secret"]
LEAKS = '''
import json, os
from collect import tell

def main_handler(event, context):
    if os.path.exists(os.environ["MENDED"]):
        tell("true", event["password"], event["card"]["number"])
        return event
    print("got", json.dumps(event))
    raise ValueError("cannot take " + json.dumps(event))
'''


@pytest.mark.short
def test_secrets_stay_secret(serve, backend, collector, folder):
    server = serve({"sandbox": "none", "redact": "password,card.number,authorization"}, backend=backend)
    server.deploy("pays", LEAKS, retries=0, env={"MENDED": str(folder / "mended")})
    id = server.send("pays", {"password": SECRETS[0], "card": {"number": SECRETS[1], "month": 7}, "n": 1},
                     headers={"Content-Type": "application/json", "Authorization": SECRETS[2]})
    server.wait_letters(1)
    said = {}
    for words in (["list"], ["list", "--json"], ["show", id], ["show", id, "--attempts", "--payload"], ["show", id, "--json"],
                  ["groups"], ["groups", "--json"], ["export", "--all"], ["export", "--all", "--as", "scf"], ["export", "--all", "--as", "lambda"],
                  ["try", id], ["try", id, "--json"], ["edit", id, "--set", "payload.password=\"" + SECRETS[0] + "\"", "--set", "payload.n=2",
                                                       "--why", "x"]):
        done = server.cli("dlq", *words)
        said[" ".join(words[:3])] = done.stdout + done.stderr
    said["audit"] = server.cli("audit").stdout + server.cli("audit", "--json").stdout
    said["metrics"] = json.dumps(server.metrics())
    said["server log"] = server.log_text()
    said["pull"] = server.cli("dlq", "pull", id).stdout
    leaks = [(where, secret) for where, text in said.items() for secret in SECRETS if secret in text]
    assert leaks == [], said[leaks[0][0]][:3000]
    assert "***" in said["show " + id + " --json"]
    exported = folder / "masked.ndjson"
    exported.write_text(said["export --all"])
    done = server.cli("dlq", "import", exported)
    assert done.returncode == 1 and "mask" in done.stdout + done.stderr, done
    (folder / "mended").touch()
    assert server.replay(ids=[id], outcomes=True)["ok"] == 1
    assert [words[1:] for words in collector.about("true")] == [SECRETS[:2]], "a replay sends the true bytes"


def test_logs_keep_secrets(serve, folder):
    server = serve({"sandbox": "none", "redact": "password,card.number"})
    server.deploy("pays", LEAKS, retries=0, env={"MENDED": str(folder / "mended")})
    server.send("pays", {"password": SECRETS[0], "card": {"number": SECRETS[1]}}, headers={"Content-Type": "application/json"})
    server.wait_letters(1)
    text = json.dumps(wait_until(lambda: server.logs("pays")[0], 20, "it logged")) + server.cli("logs", "pays").stdout
    assert not [secret for secret in SECRETS if secret in text] and "***" in text


# ---- in order ------------------------------------------------------------------------------------------------------------


KEYS = [b"a", b"b", b"c"]


@pytest.fixture
def line(kafka, topic):
    return lambda server, partitions=1: Line(kafka, server, topic(partitions))


@pytest.fixture
def gate(folder):
    return folder / "gate"


@pytest.fixture
def replayed_in_order(serve, line, collector, gate):
    """(server, stream, journal, job, dead, live) of a replay in order that is under way until the gate opens: dead records of three keys,
    live ones of them that came after it began. There are more instances than keys."""
    server, journal = serve(ALONE), Journal(collector)
    settings = {"retries": 0, "maxInstances": 5, "timeoutMs": 300_000}
    deploy(server, **settings)
    stream = line(server, 2).add(breaker="off")
    gate.touch()
    dead = stream.produce([record(KEYS[n % 3], n=n, poison=True, hold=str(gate)) for n in range(24)])
    wait_letters(server, dead)
    deploy(server, MENDED, **settings)
    gate.unlink()
    job = server.start_replay(function=FUNCTION, inOrder=True)["replay"]
    wait_until(lambda: server.replay_job(job)["sent"] >= 1, 20, "it is under way")
    live = stream.produce([record(KEYS[n % 3], n=100 + n) for n in range(24)])
    return server, stream, journal, job, dead, live


def test_a_replay_in_order_comes_before_the_live_records_of_its_keys(replayed_in_order, gate):
    server, stream, journal, job, dead, live = replayed_in_order
    gate.touch()
    server.wait_replay(job, outcomes=True)
    journal.wait_ok(dead + live)
    assert journal.repeated() == {}
    first = {place: times[0] for place, times in journal.ok.items()}
    for at in range(3):
        wanted = dead[at::3] + live[at::3]
        assert sorted(wanted, key=first.get) == wanted, f"key {KEYS[at]} is out of order"
    stream.wait_committed()


def test_a_replay_in_order_does_not_hold_up_other_keys(replayed_in_order, gate):
    server, stream, journal, job, dead, live = replayed_in_order
    others = stream.produce([record(b"z%d" % n, n=200 + n) for n in range(10)])
    journal.wait_ok(others)
    assert server.replay_job(job)["pending"] > 0
    assert journal.missing(dead + live) == dead + live
    gate.touch()


def test_a_letter_that_fails_again_stops_its_key(serve, line, collector):
    server, journal = serve(ALONE), Journal(collector)
    deploy(server, retries=0)
    stream = line(server).add()
    dead = stream.produce([record(b"a" if n % 2 else b"b", n=n, poison=True, **({"fails_until": "/nowhere"} if n == 3 else {})) for n in range(8)])
    wait_letters(server, dead)
    deploy(server, MENDED, retries=0)
    job = server.replay(function=FUNCTION, inOrder=True, outcomes=True)
    assert (job["ok"], job["dead"], job["skipped"]) == (5, 1, 2), job
    journal.wait_ok([place for n, place in enumerate(dead) if n not in (3, 5, 7)])
    assert len(server.letters()) == 3, "those behind it, and its own new one"


# ---- policies ------------------------------------------------------------------------------------------------------------


def policy(server, *words):
    done = server.cli("dlq", "policy", FUNCTION, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.short
def test_a_deploy_replays_a_sample_then_the_rest(serve, backend, collector):
    nodes = [serve(backend=backend) for _ in range(1 if backend.embedded else 2)]
    server = nodes[0]
    ids = bury(server, backend, 200)
    policy(server, "--auto-replay-on-deploy=sample:10,rate:2000/s,abort:2%")
    mend(server)
    jobs = wait_until(lambda: server.http("GET", "/v1/replays")[2]["replays"], 20, "the deploy made a replay")
    job = server.wait_replay(jobs[0]["replay"], outcomes=True)
    assert (job["total"], job["sent"], job["ok"], job["automatic"]) == (200, 200, 200, True), job
    wait_idle(server)
    assert sorted(map(int, collector.counts())) == list(range(200)) and set(collector.counts().values()) == {1}
    stays(lambda: len(server.http("GET", "/v1/replays")[2]["replays"]) == 1, 1, "two nodes make one replay")
    assert len(server.letters(state="replayed")) == len(ids)


@pytest.mark.short
def test_an_automatic_replay_stops_when_the_same_comes_back(serve, backend, collector):
    server = serve(backend=backend)
    ids = bury(server, backend, 200)
    policy(server, "--auto-replay-on-deploy=sample:10,rate:2000/s,abort:50%")
    mend(server, "# of the second version\ndef main_handler(event, context): raise ValueError('not yet')")
    jobs = wait_until(lambda: server.http("GET", "/v1/replays")[2]["replays"], 20, "the deploy made a replay")
    job = server.wait_replay(jobs[0]["replay"])
    assert job["state"] == "aborted" and "the same" in job["reason"] and job["sent"] <= 10, job
    assert len(server.letters()) == len(ids), "those of the sample died anew; the others wait"


@pytest.mark.short
def test_cap_and_age_delete_what_is_over_them_and_warn_before(serve, backend):
    server = serve(backend=backend)
    ids = bury(server, backend, 100)
    policy(server, "--cap", 110)
    wait_until(lambda: server.metric("weir_letters_cap_ratio", FUNCTION) >= 0.9, 20, "the metric says how full it is")
    wait_until(lambda: "90 %" in server.log_text(), 20, "it warns")
    assert server.metric("weir_letters_dead", FUNCTION) == 100 and len(server.letters()) == 100, "nothing is deleted yet"
    policy(server, "--cap", 40)
    wait_until(lambda: len(server.letters()) == 40, 20, "the oldest go")
    assert {letter["id"] for letter in server.letters()} == set(ids[-40:])
    policy(server, "--cap", "none")
    old = {**server.letter(ids[-1]), "acceptedMs": 1760000000000, "diedMs": 1760000000000}
    server.import_letters([{**old, "id": f"0199c82c-c000-7000-8000-{n:012x}"} for n in range(15)])
    sql(server, backend, "UPDATE letters SET died_ms = accepted_ms WHERE accepted_ms = 1760000000000")
    assert len(server.letters()) == 55
    policy(server, "--keep", "1h")
    wait_until(lambda: len(server.letters()) == 40, 20, "those that died before go")


# ---- try -----------------------------------------------------------------------------------------------------------------

SEES = HANDLER.replace("    attempt = context[\"attempt\"]\n", "    attempt = context[\"attempt\"]\n    tell(\"dry\", context[\"dry_run\"])\n", 1)


def test_a_try_leaves_no_trace(serve, kafka, topic, line, collector):
    server, journal = serve(ALONE), Journal(collector)
    deploy(server, SEES, retries=0)
    results = topic(1)
    stream = line(server).add(on_success=f"kafka:{results}", on_failure=f"kafka:{results}", batch=1)
    dead = stream.produce([record(b"k", n=n, poison=True) for n in range(5)])
    wait_letters(server, dead)
    stream.wait_committed()
    wait_until(lambda: len(kafka.consume(results)) == 5, 30, "the letters were sent")
    deploy(server, SEES.replace('return want.get("poison") or', "return"), retries=0)
    before, committed = [server.letter(letter["id"]) for letter in server.letters()], stream.committed()
    collector.clear()
    status, _, answer = server.http("POST", "/v1/letters/try", {"function": FUNCTION})
    assert (status, answer["passed"], answer["failed"]) == (200, 5, 0), answer
    assert [words[1] for words in collector.about("dry")] == ["True"] * 5
    status, _, answer = server.http("POST", "/v1/letters/try", {"function": FUNCTION, "to": f"{FUNCTION}:1"})
    assert (status, answer["passed"], answer["failed"]) == (200, 0, 5) and {each["verdict"] for each in answer["results"]} == {"same"}, answer
    wait_idle(server)
    assert [server.letter(letter["id"]) for letter in server.letters()] == before and stream.committed() == committed
    assert server.letters(state="replayed") == server.letters(state="due") == []
    assert len(kafka.consume(results)) == 5, "neither results nor failures are published"
    assert {words[1] for words in collector.about("dry")} == {"True"}


# ---- vendors' messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["scf", "lambda"])
def test_what_on_failure_carries(serve, kafka, topic, line, shape):
    server = serve(ALONE)
    deploy(server, retries=0)
    failures = topic(1)
    stream = line(server).add(on_failure=f"kafka:{failures}", on_failure_shape=shape, batch=1)
    places = stream.produce([record(b"k", n=7, poison=True)])
    [letter] = wait_letters(server, places).values()
    [sent] = wait_until(lambda: kafka.consume(failures), 30, "the failure is sent")
    got = json.loads(sent.value)
    status, _, page = server.http("GET", f"/v1/letters?as={shape}")
    assert status == 200 and got.keys() == page["letters"][0].keys(), (got, page)
    text = json.dumps(got)
    assert letter["id"] in text and "poison at 0:0" in text, got
    if shape == "lambda":
        assert got["version"] == "1.0" and got["requestContext"]["functionArn"] and got["responseContext"]["functionError"]
    else:
        assert got["RequestId"] and got["FunctionName"] == FUNCTION if "FunctionName" in got else got, got
