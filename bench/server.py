# SPDX-License-Identifier: Apache-2.0
"""A `weir serve` of its own for a part of the benchmark, and the cheap HTTP client that feeds it.

The client writes prepared requests and reads just enough of an answer to know that it was a good one: on a small machine
the load generator takes its processor time from the server.
"""
import base64
import http.client
import io
import json
import pathlib
import re
import shutil
import socket
import tarfile
import tempfile
import threading
import time

import tools

FUNCTIONS = tools.HERE / "functions"


class Weir:
    """with Weir("--queue", url) as weir: …; `keep` names a data folder that outlives it."""

    def __init__(self, *options, keep=None):
        self.options = [str(o) for o in options]
        self._own = keep is None
        self.data = pathlib.Path(keep or tempfile.mkdtemp(prefix="weir-bench-"))
        self.port = tools.free_port()
        self.child = None

    def __enter__(self):
        argv = [tools.WEIR, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", self.data, "--log-level", "warn",
                "--runtimes", tools.ROOT / "runtimes", *self.options]
        # Its instances get the interpreter that this path names: the one that the competitors run on.
        self.child = tools.spawn(argv, log="weir", env={"PATH": tools.PLAIN_PATH, "HOME": "/tmp", "LANG": "C.UTF-8"})
        tools.wait_for("weir serve", self._ready, 30)
        return self

    def __exit__(self, *_):
        tools.end(self.child, 40)
        if self._own:
            shutil.rmtree(self.data, ignore_errors=True)

    def _ready(self):
        if self.child.poll() is not None:
            raise RuntimeError("weir serve ended at once; see build/bench/log/weir.log")
        try:
            return self.call("GET", "/readyz", raw=True)[0] == 200
        except OSError:
            return False

    @property
    def pid(self):
        return self.child.pid

    def call(self, method, path, body=None, raw=False):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            conn.request(method, path, body=None if body is None else json.dumps(body))
            answer = conn.getresponse()
            data = answer.read()
        finally:
            conn.close()
        if raw:
            return answer.status, data
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
        return json.loads(data)

    def deploy(self, name, source, **settings):
        """source: a file of bench/functions, without .py."""
        text = (FUNCTIONS / f"{source}.py").read_bytes()
        self.deploy_text(name, text, **settings)

    def deploy_text(self, name, text, **settings):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("fn.py")
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text))
        self.call("PUT", f"/v1/functions/{name}", {
            "settings": {"runtime": "python", "handler": "fn.main_handler", **settings},
            "package": base64.b64encode(archive.getvalue()).decode()})

    def invoke(self, name, payload=b"{}"):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            conn.request("POST", f"/v1/functions/{name}/invocations", body=payload)
            answer = conn.getresponse()
            data = answer.read()
        finally:
            conn.close()
        if answer.status != 200:
            raise RuntimeError(f"invoke {name}: {answer.status} {data[:300]!r}")
        return data

    def metric(self, name, **labels):
        """The sum of a metric's lines that carry these labels."""
        text = self.call("GET", "/metrics", raw=True)[1].decode()
        total = 0.0
        for line in re.findall(rf"^{name}(?:\{{.*\}})? .*$", text, re.M):
            if all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def wait_metric(self, name, target, seconds, **labels):
        """Returns time.monotonic() at which the metric has reached the target."""
        until = time.monotonic() + seconds
        while True:
            value, now = self.metric(name, **labels), time.monotonic()
            if value >= target:
                return now
            if now > until:
                raise RuntimeError(f"{name} is at {value:.0f} of {target} after {seconds} s")
            time.sleep(0.02)


class Replay:
    """A replay that was just asked for; what is waited for comes back as time.monotonic()."""

    def __init__(self, weir, body):
        self.weir = weir
        self.sent_before = weir.metric("weir_replays_total")
        self.ok_before = weir.metric("weir_events_ok_total")
        start = time.monotonic()
        answer = weir.call("POST", "/v1/replays", body)
        self.made_in, self.number, self.total = time.monotonic() - start, answer["replay"], answer["total"]

    def state(self):
        return self.weir.call("GET", f"/v1/replays/{self.number}")

    def _wait(self, metric, target, done, seconds):
        """The counter is cheap to ask for, the replay's own counts are exact: so the one first, then the other."""
        self.weir.wait_metric(metric, target, seconds)
        return tools.wait_for(f"replay {self.number}", lambda: done(self.state()) and time.monotonic(), seconds, 0.02)

    def wait_sent(self, seconds):
        """Every letter is marked."""
        return self._wait("weir_replays_total", self.sent_before + self.total, lambda s: s["sent"] == self.total, seconds)

    def wait_ok(self, seconds):
        """Every new event was handled, and the replay knows."""
        return self._wait("weir_events_ok_total", self.ok_before + self.total, lambda s: s["ok"] == self.total, seconds)


def payload(number, size=256):
    """A JSON object of exactly `size` bytes."""
    head = '{"order":%d,"customer":"c-%06d","pad":"' % (number, number % 99991)
    return (head + "x" * (size - len(head) - 2) + '"}').encode()


def batches(count, lines, base=0):
    """`count` events in bodies of `lines` lines."""
    return [b"\n".join(payload(base + n) for n in range(at, min(at + lines, count))) + b"\n"
            for at in range(0, count, lines)]


class Feeder:
    """Sends prepared bodies to a function, each=line, over several connections; accepted events are counted."""

    def __init__(self, weir, function, bodies, connections=2):
        head = (f"POST /v1/functions/{function}/invocations?invokeType=Event&each=line HTTP/1.1\r\n"
                "Host: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n")
        self.requests = [(head % len(body)).encode() + body for body in bodies]
        self.port = weir.port
        self.lock = threading.Lock()
        self.at = 0
        self.busy = 0  # answers that asked to come again
        self.failure = None
        self.threads = [threading.Thread(target=self._send, daemon=True) for _ in range(connections)]

    def start(self):
        for t in self.threads:
            t.start()

    def join(self):
        for t in self.threads:
            t.join()
        if self.failure:
            raise self.failure

    def _next(self):
        with self.lock:
            if self.at >= len(self.requests) or self.failure:
                return None
            self.at += 1
            return self.requests[self.at - 1]

    def _send(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 60) as s:
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (request := self._next()) is not None:
                    while not self._exchange(s, request):
                        self.busy += 1
                        time.sleep(0.05)
        except BaseException as e:
            self.failure = e

    @staticmethod
    def _exchange(s, request):
        s.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            more = s.recv(262144)
            if not more:
                raise RuntimeError("the server closed the connection")
            got += more
        head, _, body = got.partition(b"\r\n\r\n")
        left = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1)) - len(body)
        while left > 0:
            body += (more := s.recv(262144))
            left -= len(more)
            if not more:
                raise RuntimeError("the server closed the connection")
        status = int(head[9:12])
        if status == 429 and not json.loads(body).get("accepted"):
            return False
        if status != 202:
            raise RuntimeError(f"answer {status}: {body[:200]!r}")
        return True
