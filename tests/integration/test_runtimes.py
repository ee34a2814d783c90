# SPDX-License-Identifier: Apache-2.0
"""The runtimes as real processes over a socket pair, with the test in the place of the server."""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUNTIMES = os.path.join(ROOT, "runtimes")
EXAMPLES = os.path.join(ROOT, "examples")
INIT, READY, INVOKE, RESULT, ERROR, LOG, PING, PONG, STOP = range(1, 10)
HEADER = struct.Struct("<IBBHI")
PATIENCE_S = 30
Frame = namedtuple("Frame", "type seq body")


class Instance:
    """One runtime process and the server's end of its socket."""

    def __init__(self, runtime):
        self.sock, child = socket.socketpair()
        self.sock.settimeout(PATIENCE_S)
        command = [sys.executable, "-u", "-B", os.path.join(RUNTIMES, runtime, "main.py")]
        env = {k: v for k, v in os.environ.items() if not k.startswith("WEIR")}
        env["WEIR_FD"] = str(child.fileno())
        self.process = subprocess.Popen(command, pass_fds=[child.fileno()], env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.close()
        self.received = b""

    def send(self, kind, seq=0, body=b"", version=1, flags=0):
        self.sock.sendall(HEADER.pack(len(body), version, kind, flags, seq) + body)

    def recv(self):
        """The next frame; None at the end of the stream."""
        while True:
            if len(self.received) >= 12:
                length, version, kind, flags, seq = HEADER.unpack_from(self.received)
                assert (version, flags) == (1, 0)
                if len(self.received) >= 12 + length:
                    body, self.received = self.received[12:12 + length], self.received[12 + length:]
                    return Frame(kind, seq, body)
            try:
                got = self.sock.recv(1 << 20)
            except ConnectionResetError:
                got = b""
            if not got:
                assert not self.received, "a frame was cut short"
                return None
            self.received += got

    def init(self, code_dir, handler, **fields):
        init = {"function": "f", "version": 3, "handler": handler, "code_dir": str(code_dir), "env": {}, "timeout_ms": 3000,
                "memory_mb": 512, "context": {}}
        init.update(fields)
        self.send(INIT, 0, json.dumps(init).encode())
        return self.answer(0)[0]

    def invoke(self, seq, payload=b"", **meta):
        meta = json.dumps({"request_id": "r%d" % seq, "attempt": 1, "deadline_ms": 1767225600000, "time_limit_in_ms": 3000,
                           **meta}).encode()
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        self.send(INVOKE, seq, struct.pack("<H", len(meta)) + meta + payload)

    def answer(self, seq):
        """(the READY, RESULT or ERROR of seq, the log text before it)."""
        log = b""
        while True:
            f = self.recv()
            assert f is not None, "the instance ended: " + self.stderr()
            assert f.seq == seq
            if f.type != LOG:
                return f, log.decode()
            log += f.body

    def call(self, seq, payload=b"", **meta):
        self.invoke(seq, payload, **meta)
        return self.answer(seq)

    def result(self, seq, payload=b"", **meta):
        f, _ = self.call(seq, payload, **meta)
        assert f.type == RESULT, f.body
        return json.loads(f.body)

    def error(self, seq, payload=b"", **meta):
        f, _ = self.call(seq, payload, **meta)
        assert f.type == ERROR, f.body[:200]
        return json.loads(f.body)

    def ended(self):
        """The exit status, once the stream has ended with nothing more in it."""
        assert self.recv() is None
        return self.process.wait(PATIENCE_S)

    def stderr(self):
        self.process.kill()
        return self.process.stderr.read().decode()

    def close(self):
        self.sock.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    """start(source, handler="main_handler"): a loaded Python instance; without source an empty one."""
    instances = []

    def start(source=None, handler="main_handler", runtime="python", **init):
        inst = Instance(runtime)
        instances.append(inst)
        if source is None:
            return inst
        (tmp_path / "fn.py").write_text(textwrap.dedent(source))
        ready = inst.init(tmp_path, "fn." + handler, **init)
        assert ready.type == READY, ready.body.decode()
        return inst

    yield start
    for inst in instances:
        inst.close()


@pytest.fixture
def start_exec(tmp_path):
    """start_exec(script): a loaded instance of the exec runtime."""
    instances = []

    def start(script, name="fn.sh", mode=0o755, expect=READY, **init):
        path = tmp_path / name
        path.write_text(script) if isinstance(script, str) else path.write_bytes(script)
        path.chmod(mode)
        inst = Instance("exec")
        instances.append(inst)
        ready = inst.init(tmp_path, name, **init)
        assert ready.type == expect, ready.body.decode()
        return inst if expect == READY else json.loads(ready.body)

    yield start
    for inst in instances:
        inst.close()


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.005)


def gone(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


# ---- Python: the happy path -------------------------------------------------------------------------------------------------


def test_ready_says_what_runs(start, tmp_path):
    inst = start()
    (tmp_path / "fn.py").write_text("def main_handler(event, context): pass")
    ready = json.loads(inst.init(tmp_path, "fn.main_handler").body)
    assert ready["runtime"] == "python%d.%d.%d" % sys.version_info[:3]
    assert ready["load_ms"] >= 0


def test_context_has_the_scf_fields(start):
    inst = start("def main_handler(event, context): return context", env={"A": "1", "B": "x y"},
                 context={"namespace": "shop", "tencentcloud_region": "gz", "tencentcloud_appid": "1", "tencentcloud_uin": "2"})
    assert inst.result(1, attempt=2, source={"kind": "http"}) == {
        "memory_limit_in_mb": 512, "time_limit_in_ms": 3000, "request_id": "r1", "environment": '{"A":"1","B":"x y"}',
        "environ": "A=1;B=x y", "function_version": "3", "function_name": "f", "namespace": "shop",
        "tencentcloud_region": "gz", "tencentcloud_appid": "1", "tencentcloud_uin": "2", "attempt": 2,
        "deadline_ms": 1767225600000, "headers": {}, "source": {"kind": "http"}}


def test_context_is_fresh_for_each_event(start):
    inst = start("""
        def main_handler(event, context):
            seen = sorted(context) , dict(context["headers"])
            context["mine"] = context["headers"]["mine"] = 1
            context.pop("namespace", None)
            return seen
    """)
    assert inst.result(1) == inst.result(2)


@pytest.mark.parametrize("payload, want", [
    (b'{"a":1}', "{'a': 1}"), (b" [1, 2.5]\r\n", "[1, 2.5]"), (b"12", "12"), (b"null", "None"), (b"", "None"),
    (b'"text"', "'text'"), (b"plain text", "'plain text'"), (b'{"a":1} trailing', "'{\"a\":1} trailing'"), (b"  ", "'  '"),
    (b"NaN", "'NaN'"), (b"-Infinity", "'-Infinity'"), (b"{", "'{'"), (b"\xff\xfe\x00", "b'\\xff\\xfe\\x00'"),
    ("\ufeff[1]".encode(), "[1]"), ('"ü€😀"'.encode(), "'ü€😀'"),
])
def test_events_are_json_else_text_else_bytes(start, payload, want):
    inst = start("def main_handler(event, context): return repr(event)")
    assert inst.result(1, payload) == want


@pytest.mark.parametrize("expression, want", [
    ("None", b"null"), ("{'a': [1, 2.5, True, None, 'x']}", b'{"a":[1,2.5,true,null,"x"]}'), ("'ü€😀'", '"ü€😀"'.encode()),
    ("'\\ud800'", b'"\\ud800"'), ("(1, 2)", b"[1,2]"), ("{1: 2}", b'{"1":2}'), ("'x'", b'"x"'), ("''", b'""'),
])
def test_results_are_compact_json(start, expression, want):
    inst = start("def main_handler(event, context): return " + expression)
    assert inst.call(1)[0] == Frame(RESULT, 1, want)


def test_answers_500_pipelined_events_in_order(start):
    inst = start("""
        seen = []
        def main_handler(event, context):
            seen.append(event["n"])
            if event["n"] % 100 == 7:
                raise ValueError(event["n"])
            print("event", event["n"])
            return [event["n"], context["request_id"], len(seen)]
    """)
    data = []
    real_send, inst.send = inst.send, lambda kind, seq, body: data.append(HEADER.pack(len(body), 1, kind, 0, seq) + body)
    for n in range(1, 501):
        inst.invoke(n, {"n": n, "pad": "x" * n})
    inst.send = real_send
    inst.sock.sendall(b"".join(data))
    for n in range(1, 501):
        f, log = inst.answer(n)
        if n % 100 == 7:
            assert (f.type, json.loads(f.body)["message"]) == (ERROR, str(n))
        else:
            assert (f.type, json.loads(f.body), log) == (RESULT, [n, "r%d" % n, n], "event %d\n" % n)


def test_frames_may_arrive_byte_by_byte(start):
    inst = start("def main_handler(event, context): return event")
    body = struct.pack("<H", 2) + b"{}" + b'"x"'
    for byte in HEADER.pack(len(body), 1, INVOKE, 0, 5) + body:
        inst.sock.sendall(bytes([byte]))
    assert inst.answer(5)[0].body == b'"x"'


def test_a_large_event_among_small_ones(start):
    inst = start("def main_handler(event, context): return len(event)")
    sender = threading.Thread(target=lambda: [inst.invoke(1, "a"), inst.invoke(2, "b" * 6_000_000), inst.invoke(3, "c" * 300_000),
                                              inst.invoke(4, "d")])
    sender.start()
    assert [json.loads(inst.answer(n)[0].body) for n in (1, 2, 3, 4)] == [1, 6_000_000, 300_000, 1]
    sender.join()


def test_the_answer_is_sent_before_the_next_event_begins(start, tmp_path):
    os.mkfifo(tmp_path / "gate")
    inst = start("""
        def main_handler(event, context):
            if event == "wait":
                open("gate").read()
            return event
    """)
    inst.invoke(1, "first")
    inst.invoke(2, "wait")
    assert inst.answer(1)[0].body == b'"first"'
    (tmp_path / "gate").write_text("go")
    assert inst.answer(2)[0].body == b'"wait"'


def test_env_code_dir_and_packages(start, tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "other.py").write_text("NAME = 'other'")
    (tmp_path / "pkg" / "mod.py").write_text("""
import os, sys, time
from . import other
def go(event, context):
    return [os.environ["HELLO"], os.getcwd(), other.NAME, "WEIR_FD" in os.environ, time.tzname[0], "runtimes" in sys.path[0]]
""")
    for handler in ("pkg/mod.go", "pkg.mod.go"):
        inst = start()
        assert inst.init(tmp_path, handler, env={"HELLO": "hi", "TZ": "XYZ-3"}).type == READY
        assert inst.result(1) == ["hi", str(tmp_path), "other", False, "XYZ", False]


def test_a_handler_file_may_be_named_like_a_library_module(start, tmp_path):
    for name in ("io", "time", "main", "json"):
        (tmp_path / (name + ".py")).write_text("def go(event, context): return 'mine'")
        inst = start()
        assert inst.init(tmp_path, name + ".go").type == READY
        assert inst.result(1) == "mine"
        (tmp_path / (name + ".py")).unlink()


def test_coroutines_are_run(start):
    inst = start("""
        import asyncio
        async def main_handler(event, context):
            await asyncio.sleep(0)
            return await deeper(event)
        async def deeper(event):
            if event is None:
                raise ValueError("no event")
            return event
        def plain(event, context):
            return deeper(event)
    """)
    assert inst.result(1, "x") == "x"
    error = inst.error(2)
    assert re.sub(r"\n +\^+", "", error["stack"]) == textwrap.dedent("""\
        Traceback (most recent call last):
          File "{0}/fn.py", line 5, in main_handler
            return await deeper(event)
          File "{0}/fn.py", line 8, in deeper
            raise ValueError("no event")
        ValueError: no event
        """).format(os.readlink("/proc/%d/cwd" % inst.process.pid))
    assert start(open(os.readlink("/proc/%d/cwd" % inst.process.pid) + "/fn.py").read(), "plain").result(1, "y") == "y"


def test_ping_is_answered_in_order(start):
    inst = start("def main_handler(event, context): return 1")
    inst.send(PING, 0, b"a")
    inst.invoke(1)
    inst.send(PING, 9, b"are you there")
    assert [inst.recv() for _ in range(3)] == [Frame(PONG, 0, b"a"), Frame(RESULT, 1, b"1"), Frame(PONG, 9, b"are you there")]


# ---- Python: its end --------------------------------------------------------------------------------------------------------


def test_stop_exits_0_and_runs_exit_functions(start):
    inst = start("""
        import atexit
        atexit.register(print, "bye")
        def main_handler(event, context): pass
    """)
    inst.send(STOP)
    assert inst.recv() == Frame(LOG, 0, b"bye\n")
    assert inst.ended() == 0


def test_stop_before_init(start):
    inst = start()
    inst.send(STOP)
    assert inst.ended() == 0


def test_end_of_stream_ends_it(start):
    for source in (None, "def main_handler(event, context): pass"):
        inst = start(source)
        inst.sock.shutdown(socket.SHUT_WR)
        assert inst.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("frame", [dict(kind=INVOKE, seq=1, body=b"\xff\xff{}"), dict(kind=INVOKE, seq=1, body=b"\x00"),
                                   dict(kind=LOG), dict(kind=99), dict(kind=PING, version=2), dict(kind=PING, flags=1)])
def test_a_broken_server_is_left(start, frame):
    inst = start("def main_handler(event, context): pass")
    inst.send(**frame)
    assert inst.ended() == 76
    assert b"cannot go on" in inst.process.stderr.read()


def test_a_handler_that_kills_its_process(start):
    inst = start("""
        import os
        def main_handler(event, context):
            print("last words", event)
            if event == 2:
                os._exit(7)
    """)
    for n in (1, 2, 3):
        inst.invoke(n, n)
    assert inst.answer(1) == (Frame(RESULT, 1, b"null"), "last words 1\n")
    assert inst.recv() == Frame(LOG, 2, b"last words 2\n")
    assert inst.ended() == 7


def test_a_crash_tells_where(start):
    inst = start("""
        import os, signal
        def main_handler(event, context):
            os.kill(os.getpid(), signal.SIGSEGV)
    """)
    inst.invoke(1)
    assert inst.ended() == -signal.SIGSEGV
    assert b"fn.py\", line 4 in main_handler" in inst.process.stderr.read()


def test_sigquit_tells_where_a_handler_hangs(start, tmp_path):
    os.mkfifo(tmp_path / "gate")
    inst = start("""
        def main_handler(event, context):
            print("about to wait")
            open("gate").read()
    """)
    inst.invoke(1)
    assert inst.recv() == Frame(LOG, 1, b"about to wait\n")  # sent though the handler has not ended
    inst.process.send_signal(signal.SIGQUIT)
    while b"line 4 in main_handler" not in inst.process.stderr.readline():
        pass


def test_a_forked_child_does_not_speak_for_its_parent(start):
    inst = start("""
        import os, sys
        def main_handler(event, context):
            pid = os.fork()
            if pid == 0:
                print("from the child")
                if event == "raise":
                    raise ValueError("in the child")
                if event == "exit":
                    sys.exit(5)
                return "child"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """)
    inst.invoke(1, "return")
    inst.invoke(2, "raise")
    inst.invoke(3, "exit")
    assert [inst.answer(n) for n in (1, 2, 3)] == [(Frame(RESULT, 1, b"0"), ""), (Frame(RESULT, 2, b"1"), ""),
                                                   (Frame(RESULT, 3, b"5"), "")]
    inst.send(STOP)
    assert inst.ended() == 0
    assert inst.process.stdout.read() == b"from the child\n" * 3
    assert b"ValueError: in the child" in inst.process.stderr.read()


def test_a_command_of_the_handler_does_not_inherit_the_socket(start):
    inst = start("""
        import os
        def main_handler(event, context):
            return os.system("for f in /proc/self/fd/*; do readlink $f; done | grep -q socket:")
    """)
    assert inst.result(1) == 256


# ---- Python: errors ---------------------------------------------------------------------------------------------------------

FAILING = """\
import json

def main_handler(event, context):
    return outer(event)

def outer(event):
    if event == "cause":
        try:
            return inner(event)
        except KeyError as e:
            raise RuntimeError("wrapped") from e
    if event == "deep":
        return outer(event)
    if event == "json":
        return json.loads("{")
    return inner(event)

def inner(event):
    return {}["currency"]
"""


def as_python_prints(path, event):
    """What the interpreter itself prints for the same failure."""
    caller = path / "caller.py"
    caller.write_text("import fn\nfn.main_handler(%r, {})\n" % event)
    text = subprocess.run([sys.executable, "-B", str(caller)], stderr=subprocess.PIPE).stderr.decode()
    return re.sub(r'  File "[^"]*caller.py".*\n(    .*\n)*', "", text)


@pytest.mark.parametrize("event", ["plain", "cause", "deep", "json"])
def test_stacks_are_what_python_prints(start, tmp_path, event):
    inst = start(FAILING)
    stacks = [inst.error(n, event)["stack"] for n in (1, 2, 3)]
    want = as_python_prints(tmp_path, event)
    if event == "deep":  # how deep it gets depends on where it began
        stacks = [re.sub(r"repeated \d+ more", "repeated N more", s) for s in stacks]
        want = re.sub(r"repeated \d+ more", "repeated N more", want)
    assert stacks == [want] * 3
    assert "runtimes" not in stacks[0]


def test_error_type_and_message(start):
    inst = start(FAILING)
    assert inst.error(1)["type"] == "KeyError"
    assert inst.error(2)["message"] == "'currency'"
    assert inst.error(3, "json")["type"] == "JSONDecodeError"


@pytest.mark.parametrize("statement, kind, message", [
    ("import sys; sys.exit(3)", "SystemExit", "3"), ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    ("class E(Exception):\n  def __str__(self): 1/0\n raise E", "E", "<str() of the exception failed: ZeroDivisionError>"),
    ("raise ValueError('x' * 100000)", "ValueError", "x" * 16384 + " [...]"),
    ("raise ExceptionGroup('g', [ValueError(1)])", "ExceptionGroup", "g (1 sub-exception)"),
])
def test_whatever_is_raised_fails_only_its_event(start, statement, kind, message):
    if "Group" in statement and sys.version_info < (3, 11):
        pytest.skip("newer Python")
    inst = start("def main_handler(event, context):\n if event: return event\n " + statement + "\n")
    error = inst.error(1)
    assert (error["type"], error["message"]) == (kind, message)
    assert len(error["stack"].encode()) <= 64 * 1024
    assert "fatal" not in error
    assert inst.result(2, "fine") == "fine"


@pytest.mark.parametrize("expression, names", [
    ("object()", "object"), ("b'x'", "bytes"), ("{'a': {1, 2}}", "set"), ("(i for i in ())", "generator"), ("{(1,): 2}", "tuple"),
    ("float('nan')", "float"), ("[float('inf')]", "float"), ("loop()", "ircular"),
])
def test_what_json_cannot_carry(start, expression, names):
    inst = start("""
        def loop():
            a = []
            a.append(a)
            return a
        def main_handler(event, context):
            return %s if event is None else event
    """ % expression)
    for n in (1, 3):
        error = inst.error(n)
        assert error["type"] == "ResultNotSerializable"
        assert names in error["message"]
        assert inst.result(n + 1, [[1]]) == [[1]]


def test_a_result_over_6_mib(start):
    inst = start("def main_handler(event, context): return 'x' * event")
    most = 6 * 1024 * 1024 - 2
    assert len(inst.result(1, most)) == most
    assert inst.error(2, most + 1)["type"] == "ResultTooLarge"
    assert inst.result(3, 1) == "x"


def test_out_of_memory_ends_the_process_after_telling(start):
    inst = start("""
        kept = []
        def main_handler(event, context):
            while event == "small":
                kept.append(bytearray(1000))
            while event == "big":
                kept.append(bytearray(1 << 24))
            return event
    """, memory_mb=64)
    inst.invoke(1, "fine")
    inst.invoke(2, "big")
    inst.invoke(3, "not begun")
    assert inst.answer(1)[0].type == RESULT
    error = json.loads(inst.answer(2)[0].body)
    assert (error["type"], error["fatal"]) == ("MemoryError", True)
    assert "in main_handler" in error["stack"]
    assert inst.ended() == 1


def test_out_of_memory_in_small_pieces(start):
    inst = start("""
        kept = []
        def main_handler(event, context):
            while True:
                kept.append([len(kept)] * 10)
    """, memory_mb=48)
    inst.invoke(1)
    assert json.loads(inst.answer(1)[0].body)["type"] == "MemoryError"
    assert inst.ended() == 1


def test_memory_limit_leaves_that_much(start):
    inst = start("def main_handler(event, context): return len(bytearray(event << 20))", memory_mb=128)
    assert inst.result(1, 100) == 100 << 20
    assert inst.error(2, 140)["type"] == "MemoryError"


# ---- Python: failing to load ------------------------------------------------------------------------------------------------


def load_error(start, tmp_path, source, handler="fn.main_handler"):
    (tmp_path / "fn.py").write_text(textwrap.dedent(source))
    inst = start()
    f = inst.init(tmp_path, handler)
    assert (f.type, f.seq) == (ERROR, 0)
    assert inst.ended() == 1
    return json.loads(f.body)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="older texts")
def test_syntax_error_shows_file_line_and_caret(start, tmp_path):
    error = load_error(start, tmp_path, "x = 1\ndef main_handler(event, context:\n    pass\n")
    assert error["type"] == "SyntaxError"
    assert error["message"] == "'(' was never closed (fn.py, line 2)"
    assert error["stack"] == '  File "%s/fn.py", line 2\n    def main_handler(event, context:\n                    ^\n' \
        "SyntaxError: '(' was never closed\n" % tmp_path


def test_missing_module_has_the_users_frame(start, tmp_path):
    error = load_error(start, tmp_path, "import not_there\n")
    assert (error["type"], error["message"]) == ("ModuleNotFoundError", "No module named 'not_there'")
    assert error["stack"] == 'Traceback (most recent call last):\n  File "%s/fn.py", line 1, in <module>\n' \
        "    import not_there\nModuleNotFoundError: No module named 'not_there'\n" % tmp_path


@pytest.mark.parametrize("handler, message", [
    ("fn.nope", "fn.py has no function nope (its functions: main_handler, other)"),
    ("fn.value", "fn.value is not a function but of type int"), ("gone.go", "the code has no file gone.py (its files: fn.py)"),
    ("pkg/gone.go", "the code has no file pkg/gone.py"), ("fn", 'the handler "fn" is not of the form file.function'),
])
def test_handler_not_found_says_what_there_is(start, tmp_path, handler, message):
    error = load_error(start, tmp_path, """
        from os.path import join
        value = 1
        def main_handler(event, context): pass
        def other(event, context): pass
        def _private(): pass
        class C: pass
    """, handler)
    assert error == {"type": "HandlerNotFound", "message": message, "stack": ""}


def test_what_is_printed_while_loading_belongs_to_no_event(start, tmp_path):
    (tmp_path / "fn.py").write_text("print('loading')\nraise SystemExit('not configured')\n")
    inst = start()
    inst.send(INIT, 0, json.dumps({"handler": "fn.main_handler", "code_dir": str(tmp_path)}).encode())
    f, log = inst.answer(0)
    assert log == "loading\n"
    assert json.loads(f.body)["message"] == "not configured"


def test_a_bad_init_is_an_error(start):
    inst = start()
    inst.send(INIT, 0, b"{}")
    assert inst.answer(0)[0].type == ERROR


# ---- Python: logs -----------------------------------------------------------------------------------------------------------


def test_stdout_stderr_and_logging_are_the_events_log(start):
    inst = start("""
        import logging, sys
        log = logging.getLogger()
        def main_handler(event, context):
            print("out", event)
            print("err", event, file=sys.stderr)
            log.warning("warned %s", event)
            sys.stdout.buffer.write(b"bytes \\xff\\n")
            sys.stdout.buffer.write("€".encode()[:1])
            sys.stdout.buffer.write("€".encode()[1:])
            sys.stdout.write("")
            print("\\ud800", end="")
            return sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.encoding
    """)
    f, log = inst.call(1, 7)
    assert log == "out 7\nerr 7\nwarned 7\nbytes \ufffd\n€\\ud800"
    assert json.loads(f.body) == [1, False, "utf-8"]


def test_long_logs_keep_their_beginning_and_their_end(start):
    inst = start("""
        def main_handler(event, context):
            for n in range(event):
                print("line %07d" % n)
    """)
    _, log = inst.call(1, 100_000)  # 13 bytes a line
    head, dropped, tail = re.fullmatch(r"(.*?)\n\[\.\.\. (\d+) bytes dropped \.\.\.\]\n(.*)", log, re.S).groups()
    assert head.startswith("line 0000000\nline 0000001\n") and len(head) == 256 * 1024
    assert tail.endswith("line 0099998\nline 0099999\n") and len(tail) == 4096
    assert len(head) + int(dropped) + len(tail) == 1_300_000
    assert inst.call(2, 1)[1] == "line 0000000\n"


def test_a_log_just_over_the_cap_loses_nothing(start):
    inst = start("def main_handler(event, context): print('é' * event, end='')")
    assert inst.call(1, 130_000)[1] == "é" * 130_000
    assert inst.call(2, 132_000)[1] == "é" * 132_000
    log = inst.call(3, 150_000)[1]
    assert "\ufffd" not in log and "bytes dropped" in log


@pytest.mark.parametrize("how", ["print('x' * 99 + '\\n' * (n >= 0), end='')", "None if n else print('x' * 100_000_000)"])
def test_printing_100_mb_is_bounded(start, how):
    inst = start("""
        def peak():
            return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
        def main_handler(event, context):
            before = peak()
            for n in range(1_000_000):
                %s
            return peak() - before
    """ % how)
    f, log = inst.call(1)
    assert len(log) < 300_000 and "bytes dropped" in log
    assert int(f.body) < (4_000 if "n >= 0" in how else 104_000)  # KiB; the second makes one string of 100 MB itself


def test_a_thread_prints_into_the_running_event(start):
    inst = start("""
        import threading
        def main_handler(event, context):
            threads = [threading.Thread(target=lambda: [print("t" * 50) for _ in range(500)]) for _ in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
    """)
    for seq in (1, 2):
        _, log = inst.call(seq)
        assert log.count("t") == 4 * 500 * 50 and log.count("\n") == 4 * 500


def test_a_thread_may_print_between_events(start):
    inst = start("""
        import threading
        go = threading.Event()
        threading.Thread(target=lambda: (go.wait(), print("late")), daemon=True).start()
        def main_handler(event, context):
            threading.Timer(0.2, go.set).start()
    """)
    inst.invoke(1)
    assert inst.recv().type == RESULT
    assert inst.recv() == Frame(LOG, 0, b"late\n")


# ---- exec -------------------------------------------------------------------------------------------------------------------


def test_exec_payload_result_environment_and_log(start_exec):
    inst = start_exec("""#!/bin/sh
        echo "to the log" >&2
        echo "$HELLO $WEIR_REQUEST_ID $WEIR_ATTEMPT $WEIR_FUNCTION $WEIR_VERSION $WEIR_DEADLINE_MS ${WEIR_FD-none}"
        cat
    """, env={"HELLO": "hi"})
    for seq in (1, 2):
        f, log = inst.call(seq, b"payload\0\xff", attempt=2)
        assert f == Frame(RESULT, seq, b"hi r%d 2 f 3 1767225600000 none\npayload\0\xff" % seq)
        assert log == "to the log\n"


def test_exec_pipelined_events_in_order(start_exec):
    inst = start_exec("#!/bin/sh\ncat\n")
    for n in range(1, 51):
        inst.invoke(n, b"%d" % n)
    assert [inst.answer(n)[0].body for n in range(1, 51)] == [b"%d" % n for n in range(1, 51)]


def test_exec_that_ignores_a_large_payload(start_exec):
    inst = start_exec("#!/bin/sh\necho done\n")
    sender = threading.Thread(target=inst.invoke, args=(1, b"x" * 6_000_000))
    sender.start()
    assert inst.answer(1)[0].body == b"done\n"
    sender.join()


def test_exec_exit_status_and_signal(start_exec):
    inst = start_exec("#!/bin/sh\nread what\necho partial\necho \"failing: $what\" >&2\neval \"$what\"\n")
    f, log = inst.call(1, b"exit 3\n")
    assert json.loads(f.body) == {"type": "ExitStatus", "message": "exit status 3", "stack": "failing: exit 3\n"}
    assert log == "failing: exit 3\n"
    for name in ("SEGV", "TERM", "KILL", "PIPE"):
        error = inst.error(2, b"kill -%s $$\n" % name.encode())
        assert (error["type"], error["message"]) == ("Signal", "killed by SIG" + name)
    assert inst.call(3, b"exit 0\n")[0].body == b"partial\n"


def test_exec_stack_is_the_last_4_kib_of_stderr(start_exec):
    inst = start_exec("#!/bin/sh\ni=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1\n")
    stack = inst.error(1)["stack"]
    assert len(stack) == 4096 and stack.endswith("line 1999\n")


def test_exec_logs_live(start_exec, tmp_path):
    os.mkfifo(tmp_path / "gate")
    inst = start_exec("#!/bin/sh\necho started >&2\ncat gate\n")
    inst.invoke(1)
    assert inst.recv() == Frame(LOG, 1, b"started\n")
    (tmp_path / "gate").write_text("result")
    assert inst.recv() == Frame(RESULT, 1, b"result")


def test_exec_large_output(start_exec):
    inst = start_exec("#!/bin/sh\nread n; head -c $n /dev/zero\n")
    most = 6 * 1024 * 1024
    assert inst.call(1, b"%d\n" % most)[0].body == bytes(most)
    assert inst.error(2, b"%d\n" % (most + 1))["type"] == "ResultTooLarge"
    assert inst.error(3, b"1000000000000\n")["type"] == "ResultTooLarge"
    assert inst.call(4, b"1\n")[0].body == b"\0"


def test_exec_stderr_of_100_mb_is_bounded(start_exec):
    inst = start_exec("#!/bin/sh\nhead -c 100000000 /dev/zero | tr '\\0' x >&2\n")
    f, log = inst.call(1)
    assert f.type == RESULT
    assert len(log) < 300_000 and "bytes dropped" in log


def test_exec_does_not_wait_for_what_is_left_in_the_background(start_exec):
    inst = start_exec("#!/bin/sh\nsleep 1000 &\necho $!\n")
    f, _ = inst.call(1)
    os.kill(int(f.body), signal.SIGKILL)


def test_exec_hang_up_kills_the_run(start_exec):
    inst = start_exec("#!/bin/sh\necho $$ >&2\nexec sleep 1000\n")
    inst.invoke(1)
    pid = int(inst.recv().body)
    inst.sock.close()
    assert inst.process.wait(PATIENCE_S) == 0
    until(lambda: gone(pid))


@pytest.mark.parametrize("script, mode, kind, message", [
    ("#!/bin/sh\n", 0o644, "NotExecutable", "fn.sh is not executable (chmod +x fn.sh)"),
    ("#!/no/such\n", 0o755, "InterpreterNotFound", "fn.sh asks for the interpreter '/no/such', which is not here"),
    ("#!/bin/sh\r\n", 0o755, "InterpreterNotFound", "fn.sh asks for the interpreter '/bin/sh\\r', which is not here "
     "(the file has Windows line ends)"),
])
def test_exec_says_at_init_why_it_cannot_start(start_exec, script, mode, kind, message):
    error = start_exec(script, mode=mode, expect=ERROR)
    assert (error["type"], error["message"]) == (kind, message)


def test_exec_missing_file(tmp_path):
    inst = Instance("exec")
    (tmp_path / "there.sh").write_text("")
    error = json.loads(inst.init(tmp_path, "gone.sh").body)
    assert error["message"] == "the code has no file gone.sh (its files: there.sh)"
    assert inst.ended() == 1
    inst.close()


def test_exec_without_a_first_line_is_for_sh(start_exec):
    assert start_exec("echo plain\n").call(1)[0].body == b"plain\n"


def test_exec_runs_a_binary(start_exec):
    with open("/bin/cat", "rb") as f:
        inst = start_exec(f.read(), name="copy")
    assert inst.call(1, b"x")[0].body == b"x"


def test_exec_leaks_no_descriptors(start_exec):
    inst = start_exec("#!/bin/sh\n[ $WEIR_ATTEMPT = 1 ]\n")
    open_files = lambda: len(os.listdir("/proc/%d/fd" % inst.process.pid))
    inst.call(1)
    before = open_files()
    for n in range(2, 30):
        inst.call(n, attempt=n % 2)
    assert open_files() == before


def test_exec_ping_and_stop(start_exec):
    inst = start_exec("#!/bin/sh\n")
    inst.send(PING, 0, b"x")
    assert inst.recv() == Frame(PONG, 0, b"x")
    inst.send(STOP)
    assert inst.ended() == 0


# ---- the examples -----------------------------------------------------------------------------------------------------------


def example(start, file, runtime="python", handler=None):
    inst = start(runtime=runtime)
    assert inst.init(EXAMPLES, handler or file + ".main_handler").type == READY
    return inst


def test_example_orders(start):
    with open(os.path.join(EXAMPLES, "orders.ndjson"), "rb") as f:
        orders = f.read().splitlines()
    broken, fixed = example(start, "orders"), example(start, "orders_fixed")
    failed = 0
    for n, order in enumerate(orders, 1):
        f, _ = broken.call(n, order)
        good = fixed.result(n, order)
        if f.type == ERROR:
            error = json.loads(f.body)
            assert error["type"] == "KeyError" and error["stack"].count("orders.py") == 3
            failed += 1
        else:
            assert json.loads(f.body) == good
    assert (len(orders), failed) == (20, 2)


def test_example_hello(start):
    assert example(start, "hello").result(1, {"name": "Ada"})["greeting"] == "Hello, Ada!"


def test_example_resize(start):
    inst = example(start, "", "exec", "resize.sh")
    picture = b"P3\n# two by two\n2 2\n255\n255 0 0  0 0 255\n255 0 0  0 0 255\n"
    f, log = inst.call(1, picture)
    assert f.body == b"P3\n1 1\n255\n128 0 128\n"
    assert "2x2 to 1x1" in log
    assert inst.error(2, b"GIF89a")["message"] == "exit status 3"


# ---- the manifests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["python", "exec"])
def test_manifest(name):
    with open(os.path.join(RUNTIMES, name, "manifest.ini")) as f:
        keys = dict(re.split(r" = ", line.strip(), maxsplit=1) for line in f if "=" in line and line[0] != ";")
    assert set(keys) == {"name", "description", "extensions", "default_handler", "probe", "command"}
    assert keys["name"] == name
    interpreter = subprocess.run(keys["probe"], shell=True, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    assert os.path.isabs(interpreter) and os.access(interpreter, os.X_OK)
