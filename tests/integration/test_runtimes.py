# SPDX-License-Identifier: Apache-2.0
"""The Python runtime: events, results, context, its end; the examples and the manifests."""
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

import pytest

from runtime_driver import (EXAMPLES, ERROR, HEADER, INVOKE, LOG, PATIENCE_S, PING,
                            PONG, READY, RESULT, RUNTIMES, STOP, Frame, start)  # noqa: F401


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
        "tencentcloud_region": "gz", "tencentcloud_appid": "1", "tencentcloud_uin": "2", "attempt": 2, "dry_run": False,
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
          File "fn.py", line 5, in main_handler
            return await deeper(event)
          File "fn.py", line 8, in deeper
            raise ValueError("no event")
        ValueError: no event
        """)
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
