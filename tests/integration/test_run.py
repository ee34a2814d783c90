# SPDX-License-Identifier: Apache-2.0
"""weir run: the event of a case in the real runtime, without a server; and versions that are tried before they go live."""
import base64
import json
import os
import pty
import re
import select
import signal
import subprocess
import textwrap
import time

import pytest

from runtime_driver import start, start_exec  # noqa: F401
from server import BIN, RUNTIMES
from waiting import wait_until

SECONDS = 60
ID = "0197a5b2-7c1e-7d40-8f3a-2b6c9d0e1f11"
ENV = {**{name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}, **RUNTIMES}
ECHO = "def main_handler(event, context):\n    return [event, context]\n"


class Done:
    def __init__(self, process, out, err):
        self.rc, self.bytes, self.out, self.err = process.returncode, out, out.decode(errors="replace"), err.decode(errors="replace")


@pytest.fixture
def desk(tmp_path):
    """A folder with code and cases, and weir run in it."""
    class Desk:
        path = tmp_path

        def code(self, source, name="orders.py"):
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(source))
            file.chmod(0o755 if source.startswith("#!") else 0o644)
            return file

        def case(self, event, **more):
            return self.file(json.dumps({"case": 1, "event": event, **more}).encode())

        def file(self, data, name="case.json"):
            (tmp_path / name).write_bytes(data)
            return tmp_path / name

        def start(self, *words, **more):
            return subprocess.Popen([BIN, "run", *map(str, words)], cwd=tmp_path, env=ENV, stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

        def run(self, *words, input=b"", rc=0):
            process = self.start(*words)
            try:
                out, err = process.communicate(input, timeout=SECONDS)
            finally:
                process.kill()
            done = Done(process, out, err)
            assert done.rc == rc, done.out + done.err
            return done

        def result(self, *words, **more):
            return json.loads(self.run(*words, **more).out)

    return Desk()


def is_gone(pid):
    """Also when nobody has taken its exit status."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# ---- the same as on the server ----------------------------------------------------------------------------------------------


def test_event_context_and_environment_are_those_of_the_server(serve, desk):
    source = """
        import os
        def main_handler(event, context):
            return {"event": event, "context": context, "environment": dict(os.environ), "folder": sorted(os.listdir("."))}
    """
    server = serve({"sandbox": "none"})
    server.collector = None
    server.deploy("orders", {"orders.py": textwrap.dedent(source)}, handler="orders.main_handler", timeoutMs=4321, memoryMb=99,
                  env={"REGION": "north", "TZ": "Asia/Tokyo"})
    status, headers, there = server.invoke("orders", {"n": 1}, headers={"X-Weir-Header-shop": "7", "X-Weir-Ordering-Key": "k"})
    assert status == 200
    context = there["context"]
    desk.code(source)
    event = {"id": context["request_id"], "function": "orders", "version": 1, "attempt": 1, "headers": context["headers"],
             "source": context["source"], "orderingKey": "k", "payload": {"n": 1}}
    case = desk.case(event, function={"runtime": "python", "handler": "orders.main_handler", "timeoutMs": 4321, "memoryMb": 99,
                                      "env": {"REGION": "north", "TZ": "Asia/Tokyo"}})
    here = desk.result(".", "--event", case)
    assert abs(here["context"].pop("deadline_ms") - time.time() * 1000) < 60_000
    assert abs(context.pop("time_limit_in_ms") - here["context"].pop("time_limit_in_ms")) <= 4321
    del context["deadline_ms"], here["folder"], there["folder"]
    assert here == there
    assert context["dry_run"] is False


def test_attempt_version_and_headers_of_the_case_reach_the_context(desk):
    desk.code(ECHO)
    event = {"id": ID, "function": "shop", "version": 7, "attempt": 4, "payload": 1,
             "headers": [["a", "1"], ["b", "2"]], "source": {"kind": "kafka", "name": "in", "at": '{"offset":7}'}}
    _, context = desk.result("orders.py", "--event", desk.case(event))
    assert [context[name] for name in ("request_id", "function_name", "function_version", "attempt")] == [ID, "shop", "7", 4]
    assert context["headers"] == {"a": "1", "b": "2"}
    assert context["source"] == {"kind": "kafka", "name": "in", "at": '{"offset":7}'}


def test_dry_run_reaches_python_and_executables(start, start_exec):  # noqa: F811
    inst = start("def main_handler(event, context): return context['dry_run']")
    assert inst.result(1) is False
    assert inst.result(2, dry_run=True) is True
    inst = start_exec('#!/bin/sh\necho "${WEIR_DRY_RUN-not there}"\n')
    assert inst.call(1)[0].body == b"not there\n"
    assert inst.call(2, dry_run=True)[0].body == b"1\n"


# ---- payloads ----------------------------------------------------------------------------------------------------------------

JSON_PAYLOADS = [
    b'{"n":1}', b'null', b'"text"', b'{ "a" : 1e999 , "a" : -0.0,\n"b":12345678901234567890123456789.000 }', b'["\\ud800","\\u0000"]',
    b'{"deep":' + b"[" * 300 + b"]" * 300 + b"}", b'["' + b"x" * (6 * 1024 * 1024 - 4) + b'"]',
]


@pytest.mark.parametrize("payload", JSON_PAYLOADS, ids=range(len(JSON_PAYLOADS)))
def test_json_payload_reaches_the_handler_byte_for_byte(desk, payload):
    desk.code("#!/bin/sh\ncat\n", "echo.sh")
    case = desk.file(b'{"event": {"id": "%s", "payload" : %s , "attempt": 2}, "case": 1}' % (ID.encode(), payload))
    assert desk.run("echo.sh", "--event", case).bytes == payload + b"\n"


@pytest.mark.parametrize("member, value, payload", [
    ("payloadText", "no json\n", b"no json\n"),
    ("payloadText", "", b""),
    ("payloadText", "a\0b", b"a\0b"),
    ("payloadBase64", base64.b64encode(b"\xff\xfe\0raw").decode(), b"\xff\xfe\0raw"),
])
def test_other_payloads(desk, member, value, payload):
    desk.code("#!/bin/sh\ncat\n", "echo.sh")
    got = desk.run("echo.sh", "--event", desk.case({member: value})).bytes
    assert got == (payload if payload.endswith(b"\n") else payload + b"\n")


@pytest.mark.parametrize("data", [b'{"n": 1}\n', b"plain", b'{"event": "signup", "user": 7}', b'{"event": {"name": "signup"}}', b"\xff\0"])
def test_a_file_that_is_no_case_is_the_payload(desk, data):
    desk.code("#!/bin/sh\ncat\n", "echo.sh")
    expected = data if data.endswith(b"\n") else data + b"\n"
    assert desk.run("echo.sh", "--event", desk.file(data)).bytes == expected
    assert desk.run("echo.sh", "--event", "-", input=data).bytes == expected


def test_without_an_event_the_payload_is_empty(desk):
    desk.code(ECHO)
    event, context = desk.result("orders.py")
    assert event is None and context["attempt"] == 1 and context["function_name"] == "orders"


def test_the_handler_sees_the_shape_of_the_trigger(desk):
    desk.code(ECHO)
    source = {"kind": "kafka", "name": "in", "at": '{"topic":"orders","partition":3,"offset":7,"timestamp":1700000000000}'}
    event, _ = desk.result("orders.py", "--event", desk.case({"payload": {"n": 1}, "shape": "scf", "source": source}))
    record = event["Records"][0]["Ckafka"]
    assert (record["topic"], record["partition"], record["offset"], record["msgBody"]) == ("orders", 3, 7, '{"n": 1}')
    assert desk.result("orders.py", "--event", desk.case({"payload": {"n": 1}, "shape": "raw", "source": source}))[0] == {"n": 1}


# ---- what it says ------------------------------------------------------------------------------------------------------------


def test_output_comes_live_and_apart_from_the_result(desk):
    desk.code("""
        import os, time
        def main_handler(event, context):
            print("begun")
            while not os.path.exists("go"):
                time.sleep(0.01)
            os.system("echo from a child")
            return {"ok": True}
    """)
    process = desk.start("orders.py")
    try:
        assert process.stderr.readline() == b"begun\n"  # the handler has not returned
        (desk.path / "go").touch()
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert json.loads(out) == {"ok": True} and b"from a child\n" in err
    assert re.search(rb"^ok after [0-9.]+m?s$", err, re.M)


FAILS = """
    def price(order):
        return order["price"] * {factor}

    def main_handler(event, context):
        return price(event)
"""
KEY_ERROR = {"type": "KeyError", "message": "'price'",
             "stack": 'Traceback (most recent call last):\n  File "orders.py", line 6, in main_handler\n    return price(event)\n'
                      '  File "orders.py", line 3, in price\n    return order["price"]\nKeyError: \'price\'\n'}


def test_says_whether_it_is_the_error_of_the_case(desk):
    desk.code(FAILS.replace("{factor}", "1"))
    failing = desk.case({"function": "orders", "payload": {}}, error=KEY_ERROR)
    done = desk.run("orders.py", "--event", failing, rc=1)
    assert "KeyError: 'price'" in done.err and 'File "orders.py", line 3, in price' in done.err
    assert "the same error as in the case" in done.err and done.out == ""
    other = desk.run("orders.py", "--event", desk.case({"payload": {"price": {}}}, error=KEY_ERROR), rc=1)
    assert "TypeError" in other.err and "another error: the case had KeyError: 'price'" in other.err
    fixed = desk.run("orders.py", "--event", desk.case({"payload": {"price": 3}}, error=KEY_ERROR))
    assert fixed.out == "3\n" and "fixed: the case had KeyError: 'price'" in fixed.err


def test_json_is_one_object(desk):
    desk.code(FAILS.replace("{factor}", "1"))
    answer = desk.result("orders.py", "--json", "--event", desk.case({"payload": {"price": 3}}, error=KEY_ERROR))
    assert answer.pop("durationMs") >= 0
    assert answer == {"outcome": "ok", "verdict": "fixed", "result": 3}
    answer = desk.result("orders.py", "--json", "--event", desk.case({"function": "orders", "payload": {}}, error=KEY_ERROR), rc=1)
    assert (answer["outcome"], answer["verdict"], answer["error"]["type"]) == ("error", "same", "KeyError")
    desk.code("#!/bin/sh\nprintf '\\377'\n", "binary.sh")
    assert base64.b64decode(desk.result("binary.sh", "--json")["resultBase64"]) == b"\xff"


@pytest.mark.parametrize("words, said", [
    (["nothing.py"], "there is no such file or folder"),
    (["orders.py", "--event", "nothing.json"], "nothing.json"),
    (["orders.py", "--env", "novalue"], "NAME=VALUE"),
    (["orders.py", "--timeout", "2h"], "timeoutMs must be"),
    (["orders.py", "--debug", "--json"], "leave --json out"),
    (["echo.sh", "--debug"], "--debug is for Python"),
])
def test_wrong_use(desk, words, said):
    desk.code(ECHO)
    desk.code("#!/bin/sh\ncat\n", "echo.sh")
    assert said in desk.run(*words, rc=2).err


@pytest.mark.parametrize("text, said", [
    ('{"event": {"payload": 1,}}', "payloadText"),
    ("", "it is empty"),
    ('{"case": 2, "event": {"payload": 1}}', "format 2"),
    ('{"case": 1}', "no event"),
    ('{"case": 1, "event": {"id": "%s"}}' % ID, "one of payload"),
    ('{"event": {"payload": 1, "payloadText": "2"}}', "only one of"),
    ('{"event": {"payload": 1, "header": {}}}', "no member 'header'"),
    ('{"event": {"payload": 1, "id": "x"}}', "id must be a UUID"),
    ('{"event": {"payload": 1, "attempt": 0}}', "attempt must be"),
    ('{"event": {"payload": 1, "headers": {"a": 1}}}', "headers must be"),
    ('{"event": {"payload": 1, "headers": 3}}', "headers must be"),
    ('{"event": {"payload": 1, "source": "kafka"}}', "source must be"),
    ('{"event": {"payloadBase64": "%%%"}}', "payloadBase64 cannot be read"),
    ('{"event": {"payload": 1}, "function": {"timeout": 3}}', "there is no setting 'timeout'"),
    ('{"event": {"payload": 1}, "error": 3}', "error must be"),
    ('["' + "x" * (6 << 20) + '"]', "at most"),
])
def test_a_wrong_case_is_refused_by_name(desk, text, said):
    desk.code("open('ran', 'w')\n" + ECHO)
    assert said in desk.run("orders.py", "--event", desk.file(text.encode()), rc=2).err
    assert not (desk.path / "ran").exists()


def test_unknown_shape(desk):
    desk.code(ECHO)
    assert "no shape is called" in desk.run("orders.py", "--event", desk.case({"payload": 1, "shape": "round"}), rc=1).err


# ---- which code --------------------------------------------------------------------------------------------------------------


def test_the_handler_is_the_one_of_the_case_when_the_file_has_it(desk):
    desk.code("def process(e, c): return 'process'\ndef main_handler(e, c): return 'main'\n", "src/orders.py")
    case = desk.case({"payload": 1}, function={"handler": "src/orders.process"})
    assert desk.result("src/orders.py", "--event", case) == "process"
    assert desk.result(".", "--event", case) == "process"
    assert "weir: src has none of index.py" in desk.run("src", "--event", desk.case({"payload": 1}), rc=2).err.replace(str(desk.path) + "/", "")
    case = desk.case({"payload": 1}, function={"handler": "src/orders.process"})
    assert desk.result("src/orders.py", "--event", case, "--handler", "orders.main_handler") == "main"
    desk.code("def main_handler(e, c): return 'fix'\n", "fix.py")
    assert desk.result("fix.py", "--event", case) == "fix"
    assert "fix.py has no function nothing" in desk.run("fix.py", "--handler", "fix.nothing", rc=1).err


def test_env_is_that_of_the_case_with_more_on_top(desk):
    desk.code("import os\ndef main_handler(e, c): return [os.environ.get(n) for n in ('A', 'B', 'C', 'WEIR_SECRET')]\n")
    case = desk.case({"payload": 1}, function={"env": {"A": "1", "B": "2"}})
    assert desk.result("orders.py", "--event", case, "--env", "B=3", "-e", "C=x=y") == ["1", "3", "x=y", None]


# ---- limits, and ends --------------------------------------------------------------------------------------------------------

HANGS = """
    import subprocess, time
    def main_handler(event, context):
        child = subprocess.Popen(["sleep", "600"])
        print(child.pid)
        time.sleep(600)
"""


def test_dry_run_is_told_to_the_handler(desk):
    file = desk.code("def main_handler(event, context): return context['dry_run']")
    assert desk.result(file, "--dry-run") is True and desk.result(file) is False
    assert "WEIR_DRY_RUN=1" in desk.run(desk.code("#!/bin/sh\nenv\n", "env.sh"), "--dry-run").out


def test_time_limit_ends_all_of_it_and_tells_where_it_was(desk):
    desk.code(HANGS)
    done = desk.run("orders.py", "--timeout", "5s", rc=1)
    assert "Timeout: it ran longer than its limit of 5000 ms and was killed" in done.err
    assert re.search(r'orders.py", line 6 in main_handler', done.err)
    wait_until(lambda: is_gone(int(done.err.split()[0])), SECONDS, "the child of the handler ends")


def test_memory_limit(desk):
    desk.code("def main_handler(e, c): return len(bytearray(300 << 20))\n")
    done = desk.run("orders.py", "--event", desk.case({"payload": 1}, function={"memoryMb": 64}), rc=1)
    assert "MemoryError" in done.err
    assert desk.result("orders.py", "--event", desk.case({"payload": 1}, function={"memoryMb": 600})) == 300 << 20


@pytest.mark.parametrize("source, said", [
    ("import os\ndef main_handler(e, c): os._exit(3)\n", "the process ended with status 3 before the handler returned"),
    ("import os\ndef main_handler(e, c): os.kill(os.getpid(), 9)\n", "ended by SIGKILL"),
    ("def main_handler(e, c):\n  return (\n", "SyntaxError"),
    ("1 / 0\ndef main_handler(e, c): pass\n", "ZeroDivisionError"),
])
def test_a_process_that_dies_is_told(desk, source, said):
    desk.code(source)
    assert said in desk.run("orders.py", rc=1).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_all_of_it(desk, number):
    desk.code(HANGS)
    process = desk.start("orders.py")
    try:
        child = int(process.stderr.readline())
        process.send_signal(number)
        assert process.wait(SECONDS) == -number
        wait_until(lambda: is_gone(child), SECONDS, "the child of the handler ends")
    finally:
        process.kill()


# ---- the debugger ------------------------------------------------------------------------------------------------------------


class Terminal:
    """weir run --debug on a terminal of its own."""

    def __init__(self, desk, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(desk.path)
            os.execve(BIN, [BIN, "run", *map(str, words), "--debug"], {**ENV, "TERM": "dumb", "NO_COLOR": "1"})
        self.text = ""
        self.seen = 0
        self.status = None

    def expect(self, wanted):
        """Reads until `wanted` comes after what was expected before; returns what stands before it."""
        end = time.monotonic() + SECONDS
        while wanted not in self.text[self.seen:]:
            assert time.monotonic() < end and self._read(), f"no {wanted!r} in:\n{self.text}"
        at = self.text.index(wanted, self.seen)
        before, self.seen = self.text[self.seen:at], at + len(wanted)
        return before

    def _read(self):
        """False at the end."""
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.text += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def type(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def end(self):
        """The exit code; negative: the signal."""
        def ended():
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            return pid
        wait_until(ended, SECONDS, lambda: self.text)
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal(desk):
    made = []

    def make(*words):
        made.append(Terminal(desk, *words))
        return made[-1]

    yield make
    for each in made:
        each.close()


PLAIN = """
    def twice(n):
        return n * 2

    def main_handler(event, context):
        n = event["n"]
        print("got", n)
        return twice(n)
"""
ASYNC = """
    import asyncio
    async def main_handler(event, context):
        n = event["n"]
        await asyncio.sleep(0)
        print("got", n)
        return n * 2
"""


@pytest.mark.parametrize("source", [PLAIN, ASYNC], ids=["plain", "async"])
def test_debugger_stops_at_the_first_line_and_goes_on(desk, terminal, source):
    desk.code(source)
    t = terminal("orders.py", "--event", desk.case({"payload": {"n": 4}, "attempt": 3}), "--timeout", "50ms")
    assert '-> n = event["n"]' in t.expect("(Pdb) ")
    t.type("p context['attempt'], context['time_limit_in_ms']")
    assert "(3, 50)" in t.expect("(Pdb) ")
    t.type("import time; time.sleep(0.2)")  # longer than the limit
    t.expect("(Pdb) ")
    t.type("n")
    t.expect("(Pdb) ")
    t.type("!n = 21")
    t.expect("(Pdb) ")
    t.type("c")
    t.expect("got 21\n")
    t.expect("42\n")
    assert t.end() == 0, t.text


def test_debugger_stops_where_the_handler_fails(desk, terminal):
    desk.code(FAILS.replace("{factor}", "1"))
    t = terminal("orders.py", "--event", desk.case({"function": "orders", "payload": {"id": 17}}, error=KEY_ERROR))
    t.expect("(Pdb) ")
    t.type("c")
    assert '-> return order["price"]' in t.expect("(Pdb) ")
    t.type("p order")
    assert "{'id': 17}" in t.expect("(Pdb) ")
    t.type("q")
    t.expect("the same error as in the case")
    assert t.end() == 1


def test_leaving_the_debugger_ends_the_run(desk, terminal):
    desk.code(PLAIN)
    t = terminal("orders.py", "--event", desk.case({"payload": {"n": 4}}))
    t.expect("(Pdb) ")
    t.type("q")
    t.expect("the debugger was left")
    assert t.end() == 1


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_the_debugger_too(desk, terminal, busy):
    desk.code("import os, time\ndef main_handler(event, context):\n    print('pid', os.getpid())\n    print('busy')\n    time.sleep(600)\n")
    t = terminal("orders.py")
    t.expect("(Pdb) ")
    t.type("n")
    t.expect("\npid ")
    pid = int(t.expect("\n"))
    t.expect("(Pdb) ")
    if busy:
        t.type("c")
        t.expect("\nbusy\n")
    os.write(t.fd, b"\x03")
    assert t.end() == -signal.SIGINT
    wait_until(lambda: is_gone(pid), SECONDS, "the runtime ends")


def test_the_server_never_debugs(serve):
    """What starts the debugger is not to be had from a function's settings."""
    server = serve({"sandbox": "none"}, env={"WEIR_DEBUG": "pdb"})
    server.deploy("f", "def main_handler(event, context): return 1", env={"WEIR_DEBUG": "pdb"})
    assert server.invoke("f", {})[2] == 1


# ---- a version beside the current one ------------------------------------------------------------------------------------------


def test_no_switch_leaves_the_current_version(serve, backend, desk):
    server = serve({"sandbox": "none"}, backend=backend)
    file = desk.code("def main_handler(e, c): return 1\n")
    assert "orders:1 deployed" in server.cli("deploy", file).stdout
    file.write_text("def main_handler(e, c): return 2\n")
    said = server.cli("deploy", file, "--no-switch").stdout
    assert "orders: version 2 is ready, version 1 stays current (weir fn use orders 2 makes it current)" in said
    assert [server.invoke(name, {})[2] for name in ("orders", "orders:1", "orders:2", "orders")] == [1, 1, 2, 1]
    assert "orders:2 unchanged" in server.cli("deploy", file, "--no-switch").stdout
    server.kill9()
    server.start()
    assert [server.invoke(name, {})[2] for name in ("orders", "orders:2")] == [1, 2]
    assert server.cli(*said.partition("(weir ")[2].partition(" makes")[0].split()).returncode == 0
    assert [server.invoke(name, {})[2] for name in ("orders", "orders:1")] == [2, 1]
    assert "orders: version 2 is the current one already" in server.cli("deploy", file, "--no-switch").stdout
    assert json.loads(server.cli("deploy", file, "--no-switch", "--json").stdout)["current"] == 2


def test_no_switch_of_a_new_function_is_its_first_version(serve, desk):
    server = serve({"sandbox": "none"})
    file = desk.code("def main_handler(e, c): return 1\n")
    assert "version 1 is the current one, as there was none before" in server.cli("deploy", file, "--no-switch").stdout
    assert server.invoke("orders", {})[2] == 1


def test_no_switch_refuses_code_that_does_not_load(serve, desk):
    server = serve({"sandbox": "none"})
    server.cli("deploy", desk.code("def main_handler(e, c): return 1\n"))
    done = server.cli("deploy", desk.code("def main_handler(:\n"), "--no-switch")
    assert done.returncode == 1 and "SyntaxError" in done.stderr
    assert len(server.http("GET", "/v1/functions/orders")[2]["versions"]) == 1
