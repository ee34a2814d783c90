# SPDX-License-Identifier: Apache-2.0
"""The runtime for executables."""
import json
import os
import signal
import threading

import pytest

from runtime_driver import (ERROR, LOG, PATIENCE_S, PING, PONG, RESULT,
                            STOP, Frame, Instance, gone, start_exec, until)  # noqa: F401


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
