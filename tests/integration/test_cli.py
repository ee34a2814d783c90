# SPDX-License-Identifier: Apache-2.0
"""The commands against a stand-in for the server: what they send, print, and end with."""
import base64
import gzip
import io
import json
import os
import pathlib
import pty
import subprocess
import tarfile
import time

import pytest

from fake_server import LETTER_IDS, FakeServer, error, letter, whole_letter

WEIR = os.environ.get("WEIR_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build/weir")
HANDLER = "def main_handler(event, context):\n    return event\n"
SECONDS = 60


@pytest.fixture
def fake():
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def weir(fake, tmp_path):
    def run(*words, rc=0, **more):
        env = {**os.environ, "WEIR_SERVER": fake.url, **more.pop("env", {})}
        env.pop("WEIR_TOKEN", None)
        if "input" in more and isinstance(more["input"], str):
            more["input"] = more["input"].encode()
        done = subprocess.run([WEIR, *map(str, words)], env=env, cwd=tmp_path, timeout=SECONDS, capture_output=True, **more)
        done.out, done.err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        assert done.returncode == rc, done.out + done.err
        return done
    return run


def deployed(fake):
    """Settings and package of the last deploy."""
    put = [r for r in fake.requests if r["method"] == "PUT"][-1]
    body = json.loads(put["body"])
    return put["path"], body["settings"], base64.b64decode(body["package"])


# ---- help, wrong use --------------------------------------------------------------------------------------------------------


def test_version_and_help_end_well(weir):
    assert weir("--version").out.startswith("weir ")
    assert "deploy" in weir("--help").out
    assert weir("help", "dlq", "replay").out == weir("dlq", "replay", "--help").out
    assert "--dry-run" in weir("help", "dlq", "replay").out


@pytest.mark.parametrize("words, said", [
    (["deploi"], "did you mean 'weir deploy'"),
    (["dlq", "lst"], "did you mean 'weir dlq list'"),
    (["status", "--jsn"], "did you mean --json"),
    (["invoke"], "it needs NAME"),
    (["fn", "show", "a", "b"], "one word too many"),
    (["logs", "a", "-n", "x"], "not a whole number"),
    (["logs", "a", "-n"], "--lines needs a value"),
    (["status", "--json=1"], "takes no value"),
    (["dlq", "list", "--state", "gone"], "due|dead"),
    (["dlq", "list", "--since", "yesterday"], "2h"),
    (["dlq", "list", "--since", "+10m"], "2h"),
    (["dlq", "replay"], "--all"),
    (["dlq", "replay", "x", "--function", "y"], "not both"),
    (["dlq", "replay", "x", "--to", "y", "--to-origin"], "give one of them"),
    (["dlq", "purge"], "--older-than"),
    (["fn", "rollback", "a"], "--to N"),
    (["trigger", "rm", "a"], "did you mean 'weir trigger remove'"),
    (["dlq", "ls"], "did you mean 'weir dlq list'"),
    (["fn", "remove", "a"], "did you mean 'weir fn delete'"),
    (["run", "x.py", "--event", "0192f3c4-0000-7000-8000-000000000001"], "weir dlq pull 0192f3c4-0000-7000-8000-000000000001 > case.json"),
    (["deploy", "x.py", "--env", "A"], "NAME=VALUE"),
    (["deploy", "x.py", "--timeout", "soon"], "--timeout"),
    (["invoke", "a", "--each-line"], "--data"),
])
def test_wrong_use_ends_with_2_and_says_why(weir, fake, words, said):
    assert said in weir(*words, rc=2).err
    assert fake.requests == []


def test_a_group_alone_shows_its_commands(weir):
    assert "replay" in weir("dlq", rc=2).err


def test_completion_comes_from_the_tables(weir):
    assert "complete" in weir("completion", "bash").out
    words = lambda *line: weir("completion", "words", "--", *line).out.split()
    assert "deploy" in words("")
    assert "replay" in words("dlq", "")
    assert "--dry-run" in words("dlq", "replay", "--")
    assert words("dlq", "list", "--state", "") == ["due", "dead", "replaying", "replayed", "discarded"]
    assert "--listen" in words("serve", "--")


# ---- the server's address, errors -------------------------------------------------------------------------------------------


def test_no_server_says_how_to_start_one(weir):
    said = weir("status", "--server", "http://127.0.0.1:1", rc=1).err
    assert "no server answers at http://127.0.0.1:1" in said and "weir serve" in said


def test_server_and_token_come_from_options_before_environment(weir, fake):
    weir("status", "--server", fake.url, "--token", "secret", env={"WEIR_SERVER": "http://127.0.0.1:1"})
    assert fake.requests[-1]["headers"]["Authorization"] == "Bearer secret"
    weir("status", "--server", fake.url.removeprefix("http://") + "/")


def test_the_servers_message_is_printed(weir, fake):
    assert "weir: there is no such thing" in weir("fn", "show", "nobody", rc=1).err
    fake.expect("GET", "/v1/status", (401, error("Unauthorized", "a token is needed")))
    assert "WEIR_TOKEN" in weir("status", rc=1).err
    fake.expect("GET", "/v1/status", (200, b"<html>"))
    assert "is it a weir server" in weir("status", rc=1).err


# ---- deploy: guesses --------------------------------------------------------------------------------------------------------


def test_deploy_guesses_python(weir, fake, tmp_path):
    (tmp_path / "hello.py").write_text(HANDLER)
    assert weir("deploy", "hello.py").out.startswith("hello:3 deployed (python, hello.main_handler, ")
    path, settings, _ = deployed(fake)
    assert path == "/v1/functions/hello"
    assert settings == {"runtime": "python", "handler": "hello.main_handler"}


@pytest.mark.parametrize("text, handler", [
    ("async def main_handler(e, c): pass", "f.main_handler"),
    ('"""\ndef handler(): in a text\n"""\ndef lambda_handler(e, c): pass', "f.lambda_handler"),
    ("def helper(): pass\ndef handler(e, c):\n    def main(): pass", "f.handler"),
    ("from shop import main_handler\n", "f.main_handler"),
    ("main_handler = 3\ndef handler(e, c): pass\ndef main(): pass", "f.main_handler"),
    ("x = '\"\"\"'\ndef handler(e, c): pass", "f.handler"),
])
def test_deploy_finds_the_function(weir, fake, tmp_path, text, handler):
    (tmp_path / "f.py").write_text(text)
    weir("deploy", "f.py")
    assert deployed(fake)[1]["handler"] == handler


@pytest.mark.parametrize("text, said", [
    ("x = 1\n", "no function"),
    ("def total(): pass\ndef tax(): pass\n", "total, tax"),
    ("def handler(e, c): pass\ndef main(): pass\n", "--handler f.FUNCTION"),
])
def test_deploy_says_when_no_function_is_clear(weir, fake, tmp_path, text, said):
    (tmp_path / "f.py").write_text(text)
    assert said in weir("deploy", "f.py", rc=1).err
    assert fake.requests == []


@pytest.mark.parametrize("file, name", [
    ("my order.v2.py", "my-order-v2"), ("2nd.py", "nd"), ("größe.py", "gr-e"), ("a_.py", "a"), ("x" * 80 + ".py", "x" * 60),
])
def test_deploy_makes_a_valid_name(weir, fake, tmp_path, file, name):
    (tmp_path / file).write_text(HANDLER)
    weir("deploy", file)
    assert deployed(fake)[0] == "/v1/functions/" + name


def test_deploy_asks_for_a_name_when_none_can_be_made(weir, tmp_path):
    (tmp_path / "123.py").write_text(HANDLER)
    assert "--name" in weir("deploy", "123.py", rc=1).err


@pytest.mark.parametrize("file, text, mode", [("a.sh", "echo\n", 0o644), ("a.pl", "#!/usr/bin/perl\n", 0o644), ("a", "\x7fELF", 0o755)])
def test_deploy_guesses_exec(weir, fake, tmp_path, file, text, mode):
    (tmp_path / file).write_text(text)
    (tmp_path / file).chmod(mode)
    weir("deploy", file)
    assert deployed(fake)[1] == {"runtime": "exec", "handler": file}


def test_deploy_needs_a_runtime_for_other_files(weir, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert "--runtime" in weir("deploy", "a.txt", rc=1).err
    assert "No such file" in weir("deploy", "gone.py", rc=1).err


@pytest.mark.parametrize("files, runtime, handler", [
    (["index.py", "main.py"], "python", "index.main_handler"), (["app.py"], "python", "app.main_handler"),
    (["shop.py", "other.py"], "python", "shop.main_handler"), (["bootstrap"], "exec", "bootstrap"),
])
def test_deploy_guesses_in_a_folder(weir, fake, tmp_path, files, runtime, handler):
    (tmp_path / "shop").mkdir()
    for file in files:
        (tmp_path / "shop" / file).write_text(HANDLER)
    weir("deploy", "shop/")
    assert deployed(fake)[:2] == ("/v1/functions/shop", {"runtime": runtime, "handler": handler})


def test_deploy_sends_every_setting(weir, fake, tmp_path):
    (tmp_path / "f.py").write_text(HANDLER)
    weir("deploy", "f.py", "--name", "g", "--timeout", "90s", "--memory=512MiB", "--max-instances", "4", "--retries", "0",
         "--backoff", "1s,500ms", "--max-age", "1h", "-e", "A=1", "--env", "B=x=y", "--description", "adds")
    assert deployed(fake)[:2] == ("/v1/functions/g", {
        "runtime": "python", "handler": "f.main_handler", "timeoutMs": 90000, "memoryMb": 512, "maxInstances": 4, "retries": 0,
        "backoffMs": [1000, 500], "maxAgeMs": 3600000, "env": {"A": "1", "B": "x=y"}, "description": "adds"})


OLD = {"runtime": "python", "handler": "orders.main_handler", "timeoutMs": 10000, "memoryMb": 128, "backoffMs": [50],
       "env": {"SINK": "s3cret", "A": "1"}, "description": "x"}
NEW = {**OLD, "timeoutMs": 60000, "memoryMb": 256, "backoffMs": [1000, 5000, 30000], "env": {"A": "2", "B": "3"}}


def versions(*settings, current=1):
    return 200, {"name": "orders", "current": current, "versions": [{"number": n, "settings": s} for n, s in enumerate(settings, 1)]}


def test_deploy_tells_what_differs_from_the_current_version(weir, fake, tmp_path):
    (tmp_path / "orders.py").write_text(HANDLER)
    answer = 201, {"name": "orders", "version": 3, "sha256": "ab" * 32, "current": 3}
    before = versions(OLD, {**OLD, "timeoutMs": 5})
    after = versions(OLD, {**OLD, "timeoutMs": 5}, NEW, current=3)
    fake.expect("PUT", "/v1/functions/orders", answer, answer)
    fake.expect("GET", "/v1/functions/orders", before, after, before, after)
    done = weir("deploy", "orders.py")
    assert done.out.splitlines()[1] == ("settings differ from version 1: env SINK gone, env A changed, env B added, timeout 10s -> 60s, "
                                        "memory 128MiB -> 256MiB, backoff 50ms -> 1s,5s,30s")
    assert "--keep-settings" in done.err and "s3cret" not in done.out + done.err
    shown = json.loads(weir("deploy", "orders.py", "--json").out)
    assert shown["settingsFrom"] == 1 and {"name": "env.SINK", "what": "gone"} in shown["settingsChanged"]
    assert {"name": "timeoutMs", "what": "changed", "before": 10000, "after": 60000} in shown["settingsChanged"]
    fake.expect("GET", "/v1/functions/orders", before, versions(OLD, OLD, OLD))
    assert "differ" not in weir("deploy", "orders.py").out


def test_a_deploy_that_succeeded_is_no_failure(weir, fake, tmp_path):
    (tmp_path / "orders.py").write_text(HANDLER)
    fake.expect("GET", "/v1/functions/orders", versions(OLD), (503, error("Unavailable", "the store is away")))
    done = weir("deploy", "orders.py")
    assert done.out.startswith("orders:3 deployed") and "differ" not in done.out
    assert "it is deployed, but which settings differ is not known: the store is away" in done.err
    fake.expect("GET", "/v1/functions/orders", (503, error("Unavailable", "the store is away")))
    assert weir("deploy", "orders.py", rc=1).err == "weir: the store is away\n"
    assert len(fake.sent("PUT", "/v1/functions/orders")) == 1


def test_deploy_keeps_settings_when_it_is_told_to(weir, fake, tmp_path):
    (tmp_path / "orders.py").write_text("def other(event, context): pass\n")  # nothing to guess: the handler is kept too
    fake.expect("GET", "/v1/functions/orders", versions({"timeoutMs": 1}, {**OLD, "handler": "orders.other"}, current=2), (404, {}))
    weir("deploy", "orders.py", "--keep-settings", "--timeout", "60s", "-e", "A=2", "-e", "B=3")
    assert deployed(fake)[1] == {**OLD, "handler": "orders.other", "timeoutMs": 60000, "env": {"SINK": "s3cret", "A": "2", "B": "3"}}
    (tmp_path / "orders.py").write_text(HANDLER)
    fake.expect("GET", "/v1/functions/orders", (404, {}))
    weir("deploy", "orders.py", "--keep-settings")  # the first one: nothing to keep
    assert deployed(fake)[1] == {"runtime": "python", "handler": "orders.main_handler"}
    fake.expect("GET", "/v1/functions/orders", (503, error("Unavailable", "the store is away")))
    count = len(fake.sent("PUT", "/v1/functions/orders"))
    assert "the store is away" in weir("deploy", "orders.py", rc=1).err
    assert len(fake.sent("PUT", "/v1/functions/orders")) == count


def test_deploy_says_unchanged_and_prints_syntax_errors(weir, fake, tmp_path):
    (tmp_path / "f.py").write_text(HANDLER)
    fake.expect("PUT", "/v1/functions/f", (200, {"name": "f", "version": 2, "sha256": "00"}))
    assert weir("deploy", "f.py").out.startswith("f:2 unchanged")
    fake.expect("PUT", "/v1/functions/f", (400, error("InvalidArgument", "SyntaxError: f.py line 3")))
    assert weir("deploy", "f.py", rc=1).err == "weir: SyntaxError: f.py line 3\n"
    assert json.loads(weir("deploy", "f.py", "--json").out)["version"] == 3


# ---- deploy: the package ----------------------------------------------------------------------------------------------------


def make_tree(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(HANDLER)
    return root


def test_the_package_depends_on_the_content_only(weir, fake, tmp_path):
    names = ["index.py", "lib/b.py", "lib/a.py", "z.sh"]
    one, two = make_tree(tmp_path / "one", names), make_tree(tmp_path / "two", reversed(names))
    (two / "lib/a.py").chmod(0o600)
    os.utime(two / "index.py", (1, 1))
    make_tree(two, [".git/config", "__pycache__/a.pyc", "lib/c.pyc"])
    packages = []
    for folder in (one, two):
        weir("deploy", folder)
        packages.append(deployed(fake)[2])
    assert packages[0] == packages[1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packages[0]))) as tar:
        assert [m.name for m in tar] == sorted(names)
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "")}


def test_the_package_keeps_what_runs_and_follows_links_to_files(weir, fake, tmp_path):
    root = make_tree(tmp_path / "f", ["index.py"])
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "link.py").symlink_to("index.py")
    weir("deploy", root)
    with tarfile.open(fileobj=io.BytesIO(deployed(fake)[2])) as tar:
        assert {m.name: (m.mode, m.isfile()) for m in tar} == {
            "index.py": (0o644, True), "link.py": (0o644, True), "run.sh": (0o755, True)}
        assert tar.extractfile("link.py").read().decode() == HANDLER
    (root / "up").symlink_to(tmp_path)
    assert "link to a folder" in weir("deploy", root, rc=1).err


def test_a_package_that_is_too_large_is_refused_here(weir, fake, tmp_path):
    root = make_tree(tmp_path / "f", ["index.py"])
    (root / "noise").write_bytes(os.urandom(46 << 20))
    assert "45 MiB" in weir("deploy", root, rc=1).err
    with open(root / "noise", "wb") as f:
        f.truncate(600 << 20)
    assert "512 MiB" in weir("deploy", root, rc=1).err
    assert fake.requests == []


def test_a_ready_archive_goes_as_it_is(weir, fake, tmp_path):
    (tmp_path / "shop.tar.gz").write_bytes(b"whatever")
    assert "--handler" in weir("deploy", "shop.tar.gz", rc=1).err
    weir("deploy", "shop.tar.gz", "--handler", "a.b")
    assert deployed(fake) == ("/v1/functions/shop", {"runtime": "python", "handler": "a.b"}, b"whatever")


# ---- invoke -----------------------------------------------------------------------------------------------------------------

INVOCATIONS = "/v1/functions/orders/invocations"


def test_invoke_prints_the_result_and_adds_a_missing_newline(weir, fake):
    assert weir("invoke", "orders:2", "--data", '{"n":1}', "--header", "a=b=c", "--key", "k 1", "--deadline", "10s").out == '{"n":1}\n'
    request = fake.requests[-1]
    assert request["query"] == {"invokeType": "RequestResponse", "qualifier": "2", "deadlineMs": "10000"}
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["headers"]["X-Weir-Header-a"] == "b=c"
    assert request["headers"]["X-Weir-Ordering-Key"] == "k 1"
    assert weir("invoke", "orders", "--data", "-", input="plain\n").out == "plain\n"
    assert fake.requests[-1]["headers"]["Content-Type"] == "application/octet-stream"
    assert "hello log" in weir("invoke", "orders", "--log").err


def test_invoke_reads_files(weir, fake, tmp_path):
    (tmp_path / "e.bin").write_bytes(b"\x00\xff")
    assert weir("invoke", "orders", "--data", "@e.bin").stdout == b"\x00\xff\n"
    assert "No such file" in weir("invoke", "orders", "--data", "@gone", rc=1).err
    (tmp_path / "big").write_bytes(b"x" * (7 << 20))
    assert "6 MiB" in weir("invoke", "orders", "--data", "@big", rc=1).err


def test_invoke_prints_a_failure_with_its_stack(weir, fake):
    failure = error("FunctionError", "'total'", errorType="KeyError", stack="Traceback:\n  line 3", log="printed\n")
    fake.expect("POST", INVOCATIONS, (502, failure), (502, failure))
    done = weir("invoke", "orders", rc=1)
    assert done.out == "" and done.err == "weir: KeyError: 'total'\n  Traceback:\n    line 3\n"
    assert weir("invoke", "orders", "--log", rc=1).err.startswith("printed\n")


def test_invoke_async_prints_the_id(weir, fake):
    assert weir("invoke", "orders", "--async", "--data", "1").out == "id-1\n"
    assert fake.requests[-1]["query"] == {"invokeType": "Event"}


def test_each_line_waits_for_each_result_on_one_connection(weir, fake):
    fake.expect("POST", INVOCATIONS, (200, b"1"), (502, error("FunctionError", "bad", errorType="E")))
    done = weir("invoke", "orders", "--each-line", "--data", "-", input="1\n\n2\r\n3", rc=1)
    assert done.out == "1\n3\n"
    assert "line 3: E: bad" in done.err and "1 line failed, 2 accepted" in done.err
    assert [r["body"] for r in fake.requests] == [b"1", b"2", b"3"]
    assert len(fake.connections) == 1


def test_each_line_async_goes_in_chunks(weir, fake, tmp_path):
    lines = ["%d" % i for i in range(2500)]
    (tmp_path / "in").write_text("\n".join(lines))
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "@in")
    assert done.out.split() == ["id-%d" % i for i in range(1, 2501)]
    assert [len(r["body"].splitlines()) for r in fake.requests] == [1000, 1000, 500]
    assert b"".join(r["body"] for r in fake.requests).decode().split() == lines
    assert fake.requests[0]["query"] == {"invokeType": "Event", "each": "line"}
    assert len(fake.connections) == 1


def test_lines_have_the_type_of_the_first(weir, fake):
    for data in ['{"n":1}\n{"n":2}', "plain\nwords"]:
        weir("invoke", "orders", "--async", "--each-line", "--data", data)
    assert [r["headers"]["Content-Type"] for r in fake.requests] == ["application/json", "application/octet-stream"]


def test_each_line_keeps_chunks_of_long_lines_small(weir, fake):
    weir("invoke", "orders", "--async", "--each-line", "--data", "-", input="\n".join(["x" * 3000000] * 3))
    assert [len(r["body"].splitlines()) for r in fake.requests] == [1, 1, 1]


def test_each_line_does_not_hold_back_a_slow_stream(fake):
    with subprocess.Popen([WEIR, "invoke", "orders", "--async", "--each-line", "--data", "-", "--server", fake.url],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        p.stdin.write(b"1\n2\n")
        p.stdin.flush()
        assert [p.stdout.readline(), p.stdout.readline()] == [b"id-1\n", b"id-2\n"]  # before the input has ended
        p.stdin.close()
        assert p.wait(SECONDS) == 0


def refusal(status, code, taken, refused_at, **headers):
    def answer(request):
        count = len(request["body"].splitlines())
        return status, error(code, "no room", accepted=["got-%d" % i for i in range(taken)], refused=count - taken,
                             refusedAt=refused_at), headers
    return answer


def test_refused_lines_are_sent_again_and_only_those(weir, fake):
    fake.expect("POST", INVOCATIONS, refusal(429, "TooManyRequests", 2, [1, 3], **{"Retry-After": "0"}))
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "a\nb\nc\nd")
    assert [r["body"] for r in fake.requests] == [b"a\nb\nc\nd\n", b"b\nd\n"]
    assert done.out.split() == ["got-0", "got-1", "id-1", "id-2"]


def test_refusals_are_retried_a_bounded_number_of_times(weir, fake):
    fake.expect("POST", INVOCATIONS, *[(503, error("Unavailable", "the queue is away"), {"Retry-After": "0"})] * 100)
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "a\n\nb", rc=1)
    assert 5 <= len(fake.requests) <= 20
    assert "lines 1-3: the queue is away" in done.err and "2 lines failed, 0 accepted" in done.err


def test_a_line_that_will_never_pass_does_not_hold_the_others(weir, fake):
    fake.expect("POST", INVOCATIONS, refusal(413, "TooLarge", 1, [1, 2]))
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "a\nb\nc", rc=1)
    assert [r["body"] for r in fake.requests] == [b"a\nb\nc\n", b"c\n"]
    assert "line 2: no room" in done.err and "1 line failed, 2 accepted" in done.err


def test_a_partial_refusal_without_places_is_not_guessed(weir, fake):
    fake.expect("POST", INVOCATIONS, (429, error("TooManyRequests", "no room", accepted=["x"], refused=2)))
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "a\nb\nc", rc=1)
    assert len(fake.requests) == 1 and done.out == "x\n"
    assert "lines 1-3" in done.err and "2 lines failed, 1 accepted" in done.err


def test_a_request_that_is_wrong_as_a_whole_stops_it(weir, fake):
    fake.expect("POST", INVOCATIONS, (404, error("NotFound", "there is no function 'orders'")))
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "a\nb", rc=1)
    assert len(fake.requests) == 1 and "there is no function" in done.err


def test_a_line_over_the_cap_is_named(weir, fake):
    done = weir("invoke", "orders", "--async", "--each-line", "--data", "-", input="a\n" + "x" * (7 << 20) + "\nb\n", rc=1)
    assert "line 2: over 6 MiB" in done.err
    assert b"".join(r["body"] for r in fake.requests) == b"a\nb\n"


# ---- fn, status, logs, config, doctor ---------------------------------------------------------------------------------------


def test_fn(weir, fake):
    table = weir("fn", "list").out.splitlines()
    assert table[0].split() == ["NAME", "VERSION", "RUNTIME", "HANDLER", "VERSIONS", "AGE", "SHA256"]
    assert table[1].split()[:5] == ["orders", "2", "python", "orders.main_handler", "2"]
    assert json.loads(weir("fn", "list", "--json").out)["functions"][0]["name"] == "orders"
    one = fake.functions()[1]["functions"][0]
    first, second = ({"functions": [one | {"name": name}], "next": next} for name, next in (("a", "a"), ("b", None)))
    fake.expect("GET", "/v1/functions", (200, first), (200, second))
    assert json.loads(weir("fn", "list", "--json").out) == {"functions": first["functions"] + second["functions"]}
    assert [request["query"] for request in fake.requests[-2:]] == [{"limit": "1000"}, {"limit": "1000", "cursor": "a"}]
    fake.expect("GET", "/v1/functions", (200, {"functions": [], "next": None}))
    assert "no functions yet" in weir("fn", "list").err
    shown = weir("fn", "show", "orders").out
    assert shown.startswith("orders:2  deployed 2025-10-09T08:53:20.000Z") and "timeoutMs     30s" in shown
    assert "backoffMs     1s, 5s, 30s" in shown
    assert [v.split()[0] for v in weir("fn", "versions", "orders").out.splitlines()[1:]] == ["1", "2"]
    assert len(json.loads(weir("fn", "versions", "orders", "--json").out)["versions"]) == 2
    assert weir("fn", "rollback", "orders", "--to", "1").out == "orders is now orders:1\n"
    assert json.loads(fake.requests[-1]["body"]) == {"version": 1}
    assert weir("fn", "use", "orders", "1").out == "orders is now orders:1\n"
    assert json.loads(fake.requests[-1]["body"]) == {"version": 1}
    assert "is not the number of a version" in weir("fn", "use", "orders", "1a", rc=2).err
    assert weir("fn", "delete", "orders", "--yes").out == "orders deleted\n"


def test_status_takes_every_member_as_optional(weir, fake):
    shown = weir("status").out
    assert "ready, queue embedded up" in shown and "2 dead (weir dlq list shows them)" in shown
    assert "\x1b" not in shown
    assert json.loads(weir("status", "--json").out)["ready"] is True
    fake.expect("GET", "/v1/status", (200, {}), (200, {"functions": []}), (200, {"functions": [{"name": "a"}]}))
    nothing = weir("status", rc=1)
    assert "No functions yet" not in nothing.out and "did not say which functions" in nothing.err
    assert "No functions yet" in weir("status").out
    assert "a " in weir("status").out


def test_status_that_misses_numbers_shows_the_functions_and_says_whose_answer_is_missing(weir, fake):
    fn = {"name": "orders", "current": 2, "busy": 1}
    partial = [(200, {"functions": [fn], "missing": missing}) for missing in (["letters"], ["depths"], ["letters", "depths"])]
    fake.expect("GET", "/v1/status", *partial, partial[0])
    for who in ("the store", "the queue", "the store and the queue"):
        shown = weir("status", rc=1)
        assert shown.out.splitlines()[-1].split() == ["orders", "2", "-", "-", "1", "-", "-", "-", "-", "-", "-"]
        assert f"weir: {who} did not answer in time" in shown.err and "doctor" in shown.err
    assert json.loads(weir("status", "--json", rc=1).out)["missing"] == ["letters"]


def test_status_counts_delayed_letters_apart_from_retries(weir, fake):
    fake.expect("GET", "/v1/status", (200, {"functions": [{"name": "orders", "due": 3, "delayed": 2, "dead": 0}]}))
    lines = weir("status").out.splitlines()
    assert lines[-3].split()[-3:] == ["1", "2", "0"] and lines[-1] == "1 letter due for a retry, 2 delayed, 0 dead"


def test_due_letters_show_when_they_are_due_and_no_group_when_they_never_ran(weir, fake):
    soon, later = int((time.time() + 3700) * 1000), int((time.time() + 33.5 * 86400) * 1000)
    one = {**letter(0), "state": "due", "kind": "function", "group": "ab" * 8, "dueMs": soon}
    put_off = {**letter(1), "state": "due", "kind": "delayed", "group": "cd" * 8, "dueMs": later, "attempts": 0, "errorType": "", "errorMessage": ""}
    fake.expect("GET", "/v1/letters", (200, {"letters": [one, put_off], "next": None}))
    lines = weir("dlq", "list", "--state", "due").out.splitlines()
    assert lines[0].split()[3] == "DUE" and "in 33d" in lines[2] and "in 61m" in lines[1] and "cdcd" not in lines[2] and "abab" in lines[1]
    assert "DUE" not in weir("dlq", "list").out
    whole = {**whole_letter(1), **put_off, "acceptedMs": later, "history": []}
    fake.expect("GET", "/v1/letters/" + LETTER_IDS[1], (200, whole))
    accepted = next(line for line in weir("dlq", "show", LETTER_IDS[1]).out.splitlines() if "accepted from http" in line)
    assert accepted.split()[0].startswith("2024-11-03")  # what its id says


def test_logs_prints_the_newest_lines(weir, fake):
    lines = weir("logs", "orders", "-n", "3").out.splitlines()
    assert [line.split(" ", 4)[2:] for line in lines] == [[":1", "r%d" % n, "line %d" % n] for n in (1198, 1199, 1200)]
    assert [json.loads(line)["cursor"] for line in weir("logs", "orders", "-n2", "--json").out.splitlines()] == [1199, 1200]


def test_logs_follow_goes_on_behind_the_last_cursor(weir, fake):
    one = {"cursor": 9, "timeMs": 1, "requestId": None, "version": 1, "text": "new"}
    fake.expect("GET", "/v1/functions/orders/logs", (200, {"lines": [], "next": 8}), (200, {"lines": [one], "next": 9}),
                (503, error("Unavailable", "stopping")))
    done = weir("logs", "orders", "-f", rc=1)
    assert done.out.endswith(":1 - new\n") and "stopping" in done.err
    assert [r["query"].get("after") for r in fake.requests] == [None, "8", "9"]
    assert "waitMs" in fake.requests[1]["query"]


def test_config(weir, fake):
    names = weir("config", "--names").out.split()
    assert "listen" in names and "queue" in names and fake.requests == []
    assert "# listen = 127.0.0.1:9000" in weir("config", "--defaults").out
    assert "listen" in weir("config").out
    assert json.loads(weir("config", "--json").out)["options"][0]["name"] == "listen"


def test_doctor(weir, fake):
    checks = {c["check"]: c["verdict"] for c in json.loads(weir("doctor", "--json").out)["checks"]}
    assert checks["python"] == checks["server"] == checks["queue"] == "ok" and checks["letters"] == "warn"
    for store, why in ((False, "unknown: the store is away"), (True, "unknown: the store did not answer in time")):
        fake.expect("GET", "/v1/status", (200, {"functions": [], "missing": ["letters"], "store": {"kind": "sqlite", "up": store}}))
        assert why in weir("doctor", rc=0 if store else 1).out
    fake.expect("GET", "/readyz", (503, b"the queue is away\n"))
    assert "not ready: the queue is away" in weir("doctor", rc=1).out
    assert "fail  server" in weir("doctor", "--server", "127.0.0.1:1", rc=1).out


# ---- on a terminal ----------------------------------------------------------------------------------------------------------


def on_terminal(fake, *words, answer=b"", env=None):
    """Runs it on a terminal of its own; returns the exit code and what was shown."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen([WEIR, *words, "--server", fake.url], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
                         env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **(env or {})})
    os.close(theirs)
    os.write(ours, answer)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        shown += part
    os.close(ours)
    return p.wait(SECONDS), shown.decode()


def test_a_terminal_gets_colours_unless_told_not_to(fake):
    assert "\x1b[1m" in on_terminal(fake, "fn", "list")[1]
    assert "\x1b" not in on_terminal(fake, "fn", "list", env={"NO_COLOR": "1"})[1]


def test_control_characters_of_functions_never_reach_a_terminal(fake):
    fake.expect("POST", INVOCATIONS, (200, b"a\x1b]0;owned\x07b\xc2\x9bc"))
    assert on_terminal(fake, "invoke", "orders")[1] == "a?]0;owned?b?c\r\n"
