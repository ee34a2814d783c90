# SPDX-License-Identifier: Apache-2.0
"""Handlers that harm their process: their event fails for a clear reason after three retries, and nobody else notices."""
import os
import pathlib
import re
import signal
import uuid

import pytest
from server import FAST_RETRIES
from waiting import wait_until

SOURCE = """
    import gc, os, signal, subprocess, sys, threading, time
    from collect import tell

    def harm(event):
{code}

    def main_handler(event, context):
        if event["do"] == "harm":
            tell("begin", context["request_id"], context["attempt"])
            return harm(event)
        tell(context["request_id"], context["attempt"])
        return "fine"
"""

LIMIT = {"timeoutMs": 2000}  # the good events have it too, and are to stay under it on a slow machine

# name: code of harm(), settings, outcome of each attempt, error type, what the message must say
CASES = {
    "leaves": ("os._exit(3)", {}, "crash", "InstanceCrashed", "ended with status 3"),
    "leaves_well": ("os._exit(0)", {}, "crash", "InstanceCrashed", "ended with status 0"),
    "exits": ("sys.exit(0)", {}, "error", "SystemExit", "0"),
    "segfaults": ("os.kill(os.getpid(), signal.SIGSEGV)", {}, "crash", "InstanceCrashed", "SIGSEGV"),
    "aborts": ("os.abort()", {}, "crash", "InstanceCrashed", "SIGABRT"),
    "kills_itself": ("os.kill(os.getpid(), signal.SIGKILL)", {}, "crash", "InstanceCrashed", "SIGKILL"),
    "sleeps": ("time.sleep(3600)", LIMIT, "timeout", "Timeout", "limit of 2000 ms"),
    "loops": ("while True: pass", LIMIT, "timeout", "Timeout", "limit of 2000 ms"),
    "ignores_signals": ("for n in range(1, 32):\n    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\ntime.sleep(3600)",
                        LIMIT, "timeout", "Timeout", "limit of 2000 ms"),
    "stops_itself": ("os.kill(os.getpid(), signal.SIGSTOP)", LIMIT, "timeout", "Timeout", "limit of 2000 ms"),
    "returns_a_set": ("return {1, 2}", {}, "error", "ResultNotSerializable", "set"),
    "returns_nan": ("return float('nan')", {}, "error", "ResultNotSerializable", ""),
    "returns_much": ("return 'x' * (7 << 20)", {}, "error", "ResultTooLarge", "6 MiB|6291456"),
    "eats_memory": ("held = []\nwhile True: held.append(bytearray(1 << 20))", {"memoryMb": 64}, "error", "MemoryError", "out of memory"),
    "recurses": ("return harm(event)", {}, "error", "RecursionError", "recursion"),
    "closes_its_socket": ("os.close(3)", {}, "crash", "InstanceCrashed", "closed its socket|ended with status"),
    "closes_its_socket_and_stays": ("os.close(3); time.sleep(3600)", {}, "crash", "ProtocolError", "closed its socket"),
    "writes_garbage": ("os.write(3, b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' * 3); time.sleep(3600)", {}, "crash", "ProtocolError", ""),
    "claims_a_huge_frame": ("os.write(3, bytes([255, 255, 255, 255, 1, 4, 0, 0, 1, 0, 0, 0])); time.sleep(3600)", {}, "crash",
                            "ProtocolError", ""),
    "answers_for_others": ("os.write(3, bytes([4, 0, 0, 0, 1, 4, 0, 0, 255, 255, 0, 0]) + b'null'); time.sleep(3600)", {}, "crash",
                           "ProtocolError", "answered"),
    "keeps_printing": ("def talk():\n    while True: print('still here', flush=True)\n"
                       "threading.Thread(target=talk, daemon=True).start()\nraise RuntimeError('left a thread')", {}, "error",
                       "RuntimeError", "left a thread"),
    "raises_no_exception": ("class Odd(BaseException): pass\nraise Odd('odd')", {}, "error", "Odd", "odd"),
}


def source_of(code):
    return SOURCE.format(code="\n".join(" " * 8 + line for line in code.split("\n")))


def mixed():
    """20 healthy events before, between and after two that do harm; and where the two are."""
    healthy, harm = {"do": "good"}, {"do": "harm"}
    return [healthy] * 7 + [harm] + [healthy] * 6 + [harm] + [healthy] * 7, (7, 14)


def send_mixed(server, name):
    events, places = mixed()
    ids = server.send_async(name, events)
    return [each for n, each in enumerate(ids) if n not in places], [ids[n] for n in places]


def untouched(server, collector, healthy):
    """Each healthy one ran exactly once, as its first attempt."""
    collector.wait_for(healthy)
    assert collector.repeated(healthy) == {}
    assert {line.split()[1] for line in collector.lines if line.split()[0] in healthy} == {"1"}


def dead_letters(server, name, harmful, outcome, kind, message):
    """Each harmful one is a dead letter after four attempts that all tell the reason."""
    letters = server.wait_letters(len(harmful), 60, function=name)
    assert {letter["id"] for letter in letters} == set(harmful)
    for letter in letters:
        whole = server.letter(letter["id"])
        assert (letter["kind"], letter["attempts"], len(whole["history"])) == ("function", 4, 4)
        for each in whole["history"]:
            assert (each["outcome"], each["errorType"]) == (outcome, kind), each
            assert re.search(message, each.get("errorMessage", "")), each
        assert letter["errorType"] == kind and re.search(message, letter["errorMessage"])
    assert server.letters(state="due") == []
    return letters


@pytest.mark.parametrize("case", CASES)
def test_harm_stays_with_its_event(serve, collector, case):
    code, settings, outcome, kind, message = CASES[case]
    server = serve()
    server.deploy("job", source_of(code), maxInstances=1, **FAST_RETRIES, **settings)
    healthy, harmful = send_mixed(server, "job")
    dead_letters(server, "job", harmful, outcome, kind, message)
    untouched(server, collector, healthy)
    for id in harmful:
        assert [words[2] for words in collector.about(id)] == ["1", "2", "3", "4"]
    status, _, body = server.invoke("job", {"do": "good"})
    assert (status, body) == (200, "fine")


@pytest.mark.short
@pytest.mark.parametrize("case", ["leaves", "sleeps", "returns_a_set"])
def test_harm_stays_with_its_event_on_real_engines(serve, collector, real_backend, case):
    code, settings, outcome, kind, message = CASES[case]
    server = serve(backend=real_backend)
    server.deploy("job", source_of(code), **FAST_RETRIES, **settings)
    server.deploy("other", source_of(code), **FAST_RETRIES, **settings)
    healthy, harmful = send_mixed(server, "job")
    others = server.send_async("other", [{"do": "good"}] * 50)
    dead_letters(server, "job", harmful, outcome, kind, message)
    untouched(server, collector, healthy + others)


@pytest.mark.short
def test_harm_at_full_speed(serve, collector):
    """Hundreds are in the socket of an instance when it dies: those behind the culprit were not begun."""
    server = serve()
    server.deploy("job", source_of("os._exit(3)"), **FAST_RETRIES)
    ids = server.send_async("job", [{"do": "harm" if n % 500 == 250 else "good"} for n in range(5000)])
    harmful = ids[250::500]
    dead_letters(server, "job", harmful, "crash", "InstanceCrashed", "status 3")
    untouched(server, collector, [each for each in ids if each not in set(harmful)])


# ---- children --------------------------------------------------------------------------------------------------------


def processes_named(marker):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def marker():
    """A name for the children of a test; those that got away are ended."""
    name = f"weir-child-{uuid.uuid4()}"
    yield name
    for pid in processes_named(name):
        os.kill(pid, signal.SIGKILL)


CHILDREN = """
        import subprocess
        for n in range(5):
            subprocess.Popen([event["marker"], "3600"], executable="/bin/sleep", start_new_session={session})
        for n in range(3):
            if os.fork() == 0:
                os.execv("/bin/sleep", [event["marker"], "3600"])
        tell("children", event["marker"])
        {then}
"""


@pytest.mark.parametrize("then", ["time.sleep(3600)", "os._exit(1)"])
@pytest.mark.parametrize("sandbox, session", [("none", False), ("bubblewrap", False), ("bubblewrap", True)])
def test_children_are_gone_with_their_event(serve, collector, marker, sandbox, session, then):
    server = serve({"sandbox": sandbox})
    server.deploy("forks", SOURCE.format(code=CHILDREN.format(session=session, then=then)), timeoutMs=8000, retries=0)
    id = server.send("forks", {"do": "harm", "marker": marker})
    healthy = server.send_async("forks", [{"do": "good"}] * 20)
    wait_until(lambda: collector.count("children"), 20, "the children are started")
    if "sleep" in then:
        wait_until(lambda: len(processes_named(marker)) == 8, 20, "the test sees the children while they live")
    letter, = server.wait_letters(1)
    assert letter["id"] == id and letter["errorType"] == ("Timeout" if "sleep" in then else "InstanceCrashed")
    wait_until(lambda: not processes_named(marker), 30, lambda: f"the children are gone: {processes_named(marker)}")
    untouched(server, collector, healthy)


def test_children_of_a_good_event_go_with_their_instance(serve, marker):
    server = serve({"instance-idle": "300ms"})
    server.deploy("forks", SOURCE.format(code=CHILDREN.format(session=True, then="return 1")))
    assert server.invoke("forks", {"do": "harm", "marker": marker})[0] == 200
    wait_until(lambda: not processes_named(marker), 20, "the children are gone")


@pytest.mark.short
def test_a_forked_child_that_returns_is_not_heard(serve, collector):
    server = serve()
    server.deploy("splits", source_of("os.fork()\nreturn 'once'"), maxInstances=1, **FAST_RETRIES)
    for _ in range(5):
        assert server.invoke("splits", {"do": "harm"})[::2] == (200, "once")
    healthy, odd = send_mixed(server, "splits")
    untouched(server, collector, healthy)
    wait_until(lambda: server.function_status("splits")["unsettled"] == 0, 20, "all are settled")
    assert server.letters() == [] and server.letters(state="due") == []


# ---- output ----------------------------------------------------------------------------------------------------------

PRINTS = {
    "print": "line = 'x' * 999\nfor n in range(100000): print(line)\nprint('the last words')\n",
    "descriptor": "line = b'x' * 999 + b'\\n'\nfor n in range(100000): os.write(1, line)\nprint('the last words')\n",
    "one_line": "sys.stdout.write('x' * 100_000_000)\nprint('the last words')\n",
    "child": "subprocess.run(['head', '-c', '100000000', '/dev/zero'])\nprint('the last words')\n",
}


def most_memory_mib(pid):
    return int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@pytest.mark.parametrize("how", PRINTS)
def test_printing_100_mb(serve, collector, how):
    server = serve()
    server.deploy("talks", source_of(PRINTS[how] + "raise ValueError('said it all')"), maxInstances=1, memoryMb=512,
                  retries=1, backoffMs=[50])
    healthy, harmful = send_mixed(server, "talks")
    letters = server.wait_letters(2, 60)
    untouched(server, collector, healthy)
    assert {letter["id"] for letter in letters} == set(harmful)
    for letter in letters:
        assert (letter["errorType"], letter["errorMessage"]) == ("ValueError", "said it all")
        history = server.letter(letter["id"])["history"]
        assert len(history) == 2 and all(0 < len(each["log"]) <= 4096 for each in history), [each["log"][:80] for each in history]
        if how != "descriptor" and how != "child":
            assert all(each["log"].endswith("the last words\n") for each in history)
    lines, _ = server.logs("talks", limit=10000)
    assert sum(len(line["text"]) for line in lines) <= 2 << 20, "the function's log is bounded"
    if not os.environ.get("ASAN_OPTIONS"):
        assert most_memory_mib(server.pid) < 100, "the server keeps little of it"


def test_a_hostile_executable(serve, collector):
    server = serve()
    scripts = {"dies": "kill -SEGV $$", "fails": "echo why >&2; exit 3", "hangs": "sleep 3600", "forks": "sleep 3600 & sleep 3600"}
    for name, line in scripts.items():
        limit = {"timeoutMs": 400} if "sleep" in line else {}
        server.deploy(name, {"run.sh": f"#!/bin/sh\n{line}\n"}, runtime="exec", handler="run.sh", **limit, **FAST_RETRIES)
        server.send(name, {})
    letters = {letter["function"]: letter for letter in server.wait_letters(4)}
    assert {name: (letter["errorType"], letter["attempts"]) for name, letter in letters.items()} == {
        "dies": ("Signal", 4), "fails": ("ExitStatus", 4), "hangs": ("Timeout", 4), "forks": ("Timeout", 4)}
    assert "SIGSEGV" in letters["dies"]["errorMessage"] and "3" in letters["fails"]["errorMessage"]
    assert "why" in server.letter(letters["fails"]["id"])["history"][0]["stack"]


def test_code_that_is_hostile_while_it_loads(serve, collector):
    """A check of the deploy passes, then loading goes wrong: the event is charged, the server goes on."""
    server = serve({"spare-instances": 0})
    server.deploy("good", SOURCE.format(code="        pass"))
    flag = server.dir / "flag"
    flag.touch()
    server2 = serve({"sandbox": "none"})
    server2.deploy("turns", f"import os\nif not os.path.exists({str(flag)!r}): os._exit(7)\ndef main_handler(event, context): return 1",
                   **FAST_RETRIES)
    flag.unlink()
    id = server2.send("turns", {})
    letter, = server2.wait_letters(1)
    assert letter["id"] == id and letter["errorType"] == "InstanceCrashed" and "status 7" in letter["errorMessage"]
    flag.touch()
    assert server2.invoke("turns", {})[::2] == (200, 1)
