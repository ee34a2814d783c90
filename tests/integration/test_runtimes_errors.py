# SPDX-License-Identifier: Apache-2.0
"""The Python runtime when the function fails or does not load, and what it prints."""
import json
import os
import re
import subprocess
import sys
import textwrap
import threading

import pytest

from runtime_driver import ERROR, INIT, LOG, RESULT, Frame, start  # noqa: F401


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
    """What the interpreter itself prints for the same failure, with the function's files named as they were deployed."""
    caller = path / "caller.py"
    caller.write_text("import fn\nfn.main_handler(%r, {})\n" % event)
    text = subprocess.run([sys.executable, "-B", str(caller)], stderr=subprocess.PIPE).stderr.decode()
    return re.sub(r'  File "[^"]*caller.py".*\n(    .*\n)*', "", text).replace('File "%s/' % path, 'File "')


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
    assert error["stack"] == '  File "fn.py", line 2\n    def main_handler(event, context:\n                    ^\n' \
        "SyntaxError: '(' was never closed\n"


def test_missing_module_has_the_users_frame(start, tmp_path):
    error = load_error(start, tmp_path, "import not_there\n")
    assert (error["type"], error["message"]) == ("ModuleNotFoundError", "No module named 'not_there'")
    assert error["stack"] == 'Traceback (most recent call last):\n  File "fn.py", line 1, in <module>\n' \
        "    import not_there\nModuleNotFoundError: No module named 'not_there'\n"


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


def test_a_thread_may_print_between_events(start, tmp_path):
    inst = start("""
        import os, threading, time
        def say():
            while not os.path.exists(%r):
                time.sleep(0.005)
            print("late")
        threading.Thread(target=say, daemon=True).start()
        def main_handler(event, context): pass
    """ % str(tmp_path / "go"))
    inst.invoke(1)
    assert inst.recv().type == RESULT
    (tmp_path / "go").touch()
    assert inst.recv() == Frame(LOG, 0, b"late\n")
