# SPDX-License-Identifier: Apache-2.0
"""Drives a runtime as a real process over a socket pair, in the place of the server. Used by test_runtimes*.py."""
import json
import os
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
PATIENCE_S = 60
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
