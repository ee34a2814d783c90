# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the server: answers like docs/http-api.md says, records every request, and refuses what a test asks it to."""
import base64
import http.server
import json
import threading
import urllib.parse

LETTER_IDS = ["0192f3c4-0000-7000-8000-%012d" % i for i in range(1, 6)]


def letter(number):
    return {
        "id": LETTER_IDS[number], "function": "orders", "version": 2, "state": "dead", "kind": "function", "attempts": 4,
        "errorType": "KeyError", "errorMessage": "'total'\nsecond line \x1b[31m", "acceptedMs": 1760000000000,
        "changedMs": 1760000036000, "dueMs": None, "source": {"kind": "http", "name": "", "at": ""}, "orderingKey": "",
        "originId": None, "replayId": None, "to": None, "payloadBytes": 7,
    }


def whole_letter(number):
    attempt = {"attempt": 1, "startMs": 1760000000100, "durationMs": 12, "worker": "node1:77", "instance": 4711, "version": 2,
               "outcome": "error", "errorType": "KeyError", "errorMessage": "'total'",
               "stack": "Traceback (most recent call last):\n  File \"orders.py\", line 3", "log": "got an order\n"}
    return {**letter(number), "history": [attempt], "headers": [["shop", "north"]], "contentType": "application/json",
            "payload": '{"n":1}'}


class FakeServer:
    """`script` maps (method, path without query) to a list of answers, used up in order before the usual one. An answer is
    (status, body object or bytes, headers dict) or a function of the request that returns one."""

    def __init__(self):
        self.requests = []
        self.connections = set()
        self.script = {}
        self.next_id = 0
        self.letters = [0, 1]
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self):
                fake.connections.add(self.client_address)
                url = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = {"method": self.command, "path": urllib.parse.unquote(url.path), "headers": self.headers,
                           "query": dict(urllib.parse.parse_qsl(url.query)), "body": body}
                fake.requests.append(request)
                status, content, headers = fake.reply(request)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def expect(self, method, path, *answers):
        self.script[method, path] = list(answers)

    def sent(self, method, path):
        return [r for r in self.requests if (r["method"], r["path"]) == (method, path)]

    def ids(self, count):
        self.next_id += count
        return ["id-%d" % i for i in range(self.next_id - count + 1, self.next_id + 1)]

    def reply(self, request):
        waiting = self.script.get((request["method"], request["path"]))
        answer = waiting.pop(0) if waiting else self.usual(request)
        if callable(answer):
            answer = answer(request)
        return answer if len(answer) == 3 else (*answer, {})

    def usual(self, request):
        method, path = request["method"], request["path"]
        if path.endswith("/invocations"):
            return self.invocation(request)
        if method == "PUT":
            return 201, {"name": path.split("/")[-1], "version": 3, "sha256": "ab12cd34ef56" + "0" * 52}
        if path.startswith("/v1/letters/") and method == "GET":
            return 200, whole_letter(LETTER_IDS.index(path.split("/")[-1]))
        return {
            ("GET", "/v1/functions"): self.functions, ("GET", "/v1/functions/orders"): self.function,
            ("DELETE", "/v1/functions/orders"): lambda: (200, {"name": "orders"}),
            ("POST", "/v1/functions/orders/current"): lambda: (200, {"name": "orders", "current": 1}),
            ("GET", "/v1/functions/orders/logs"): lambda: self.logs(request),
            ("GET", "/v1/letters"): lambda: (200, {"letters": [letter(i) for i in self.letters], "next": None}),
            ("GET", "/v1/status"): self.status, ("GET", "/readyz"): lambda: (200, b"ready\n"),
            ("GET", "/v1/config"): lambda: (200, {"options": [
                {"name": "listen", "value": "127.0.0.1:9000", "origin": "default", "default": "127.0.0.1:9000", "help": "x"}]}),
        }.get((method, path), lambda: (404, error("NotFound", "there is no such thing")))()

    def invocation(self, request):
        if request["query"].get("invokeType") != "Event":
            log = base64.b64encode(b"hello log\n").decode()
            return 200, request["body"], {"X-Weir-Version": "1", **({"X-Weir-Log": log} if "logType" in request["query"] else {})}
        if request["query"].get("each") != "line":
            return 202, {"requestId": self.ids(1)[0]}
        return 202, {"requestIds": self.ids(len(request["body"].splitlines()))}

    def functions(self):
        return 200, {"functions": [{"name": "orders", "current": 2, "runtime": "python", "handler": "orders.main_handler",
                                    "versions": 2, "createdMs": 1760000000000, "sha256": "ab" * 32}], "next": None}

    def function(self):
        settings = {"runtime": "python", "handler": "orders.main_handler", "timeoutMs": 30000, "backoffMs": [1000, 5000, 30000]}
        return 200, {"name": "orders", "current": 2, "createdMs": 1760000000000, "versions": [
            {"number": n, "sha256": "ab" * 32, "createdMs": 1760000000000, "current": n == 2, "settings": settings} for n in (1, 2)]}

    def logs(self, request):
        after = int(request["query"].get("after", 0))
        lines = [{"cursor": n, "timeMs": 1760000000000, "requestId": "r%d" % n, "version": 1, "text": "line %d" % n}
                 for n in range(after + 1, 1201)][:int(request["query"]["limit"])]
        return 200, {"lines": lines, "next": lines[-1]["cursor"] if lines else after}

    def status(self):
        return 200, {"version": "0.1.0", "startedMs": 1760000000000, "ready": True, "queue": {"kind": "embedded", "up": True},
                     "functions": [{"name": "orders", "current": 2, "waiting": 7, "dead": 2, "okPerSecond": 3.25}]}


def error(code, message, **more):
    return {"code": code, "message": message, "requestId": "r", **more}
