# SPDX-License-Identifier: Apache-2.0
"""A `weir serve` of its own for a test: real process, real HTTP, its data in a folder of the test.

    server = Server(folder, {"sandbox": "none"})
    server.deploy("hello", "def main_handler(event, context): return event")
    assert server.invoke("hello", {"n": 1}) == (200, headers, {"n": 1})
    ids = server.send_async("hello", [{"n": n} for n in range(1000)])
    server.kill9(); server.start()          # the same data and options, another port
    assert server.stop() == 0

The binary is WEIR_BIN, else build/weir. Every answer is held against schema/openapi.yaml.
"""
import base64
import gzip
import http.client
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import tarfile
import textwrap
import urllib.parse

import openapi_check
from collector import HANDLER_SIDE
from waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = str((ROOT / os.environ.get("WEIR_BIN", "build/weir")).resolve())
# A binary of another build folder (a sanitizer's) has no runtimes beside it.
RUNTIMES = {} if (pathlib.Path(BIN).parent.parent / "runtimes").exists() else {"WEIR_RUNTIMES": str(ROOT / "runtimes")}
START_SECONDS, STOP_SECONDS, HTTP_SECONDS = 60, 60, 60
LINES_A_REQUEST = 5000  # of at most 10,000; the body stays under the server's limit too
BYTES_A_REQUEST = 8 << 20
FAST_RETRIES = {"backoffMs": [50, 50, 50]}


class StartFailed(AssertionError):
    def __init__(self, exit_code, log):
        super().__init__(f"the server ended with {exit_code} instead of listening:\n{log}")
        self.exit_code, self.log = exit_code, log


class Refused(AssertionError):
    """Some events were not accepted. `accepted` are those of this request that were."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body
        self.accepted = body.get("accepted", []) if isinstance(body, dict) else []


def package(files):
    """{path: text or bytes} as the bytes of a tar.gz. A path may be anything, so that a test can send what is not allowed."""
    packed = io.BytesIO()
    # Without the time of packing: the same files are the same bytes.
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed, tarfile.open(fileobj=compressed, mode="w") as archive:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(data)
            member.mode = 0o755 if data.startswith(b"#!") else 0o644
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def payload_bytes(data):
    if isinstance(data, bytes):
        return data
    return data.encode() if isinstance(data, str) else json.dumps(data).encode()


class Server:
    def __init__(self, dir, options=None, env=None, collector=None, start=True):
        self.dir = pathlib.Path(dir)
        self.data = self.dir / "data"
        self.log_path = self.dir / "server.log"
        self.options = {"listen": "127.0.0.1:0", "data": self.data, "grace": "5s", "runtimes": ROOT / "runtimes", **(options or {})}
        self.env = {**{name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}, **RUNTIMES, **(env or {})}
        self.collector = collector
        self.process = None
        self.port = None
        if start:
            self.start()

    # ---- the process -------------------------------------------------------------------------------------------------

    def command(self):
        words = [BIN, "serve"]
        for name, value in self.options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return words

    def start(self):
        """Returns when it listens and has its queue, without which it refuses events. StartFailed when it ends instead of listening."""
        self.launch()
        self.wait_listening()
        if "queue" in self.options:
            wait_until(lambda: self._is_ready() or not self.alive or self.is_stopped, what="the server has its queue")
        return self

    def _is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False  # it stalls, or died
        finally:
            connection.close()

    def launch(self):
        assert not self.alive, "the server runs already"
        self.dir.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_listening(self, seconds=START_SECONDS):
        def port():
            found = re.search(r'listening.*\bport"?[=:] ?"?(\d+)', self.log_text(since_start=True))
            if found is None and self.process.poll() is not None:
                raise StartFailed(self.process.returncode, self.log_text(since_start=True)[-4000:])
            return found and int(found[1])
        self.port = wait_until(port, seconds, lambda: "the server listens; its log:\n" + self.log_text()[-4000:])
        return self.port

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def wait_exit(self, seconds=STOP_SECONDS):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end in {seconds} s; its log:\n{self.log_text()[-4000:]}") from None

    def stop(self, seconds=STOP_SECONDS):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def kill9(self):
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def pause(self):
        """SIGSTOP, of the server alone. resume() continues."""
        self.process.send_signal(signal.SIGSTOP)

    @property
    def is_stopped(self):
        return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].startswith("T")

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def reload(self):
        """SIGHUP; its log tells when it is done."""
        self.process.send_signal(signal.SIGHUP)

    def restart(self):
        """The same data and options, after a stop in order; another port."""
        if self.alive:
            code = self.stop()
            assert code == 0, f"exit code {code}; the log:\n{self.log_text()[-4000:]}"
        return self.start()

    def close(self):
        """For the end of a test: the server must still be able to stop in order."""
        if not self.alive:
            return
        self.resume()
        try:
            code = self.stop()
        except BaseException:
            self.kill9()
            raise
        assert code == 0, f"the server ended with {code}; its log:\n{self.log_text()[-4000:]}"

    def log_text(self, since_start=False):
        with open(self.log_path, "rb") as log:
            log.seek(self._log_start if since_start else 0)
            return log.read().decode(errors="replace")

    def children(self):
        """Process ids of all its descendants."""
        found, parents = [], {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, IndexError):
                    continue
        level = {self.pid}
        while level:
            level = {pid for pid, parent in parents.items() if parent in level}
            found += sorted(level)
        return found

    # ---- HTTP --------------------------------------------------------------------------------------------------------

    def http(self, method, path, body=None, headers=None, seconds=HTTP_SECONDS):
        """(status, headers, body): names of headers in lower case, a JSON body decoded. A body that is not bytes is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        if self.options.get("token"):
            headers.setdefault("Authorization", f"Bearer {self.options['token']}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, {"Connection": "close", **headers})
            answer = connection.getresponse()
            data = answer.read()
        except ConnectionError as why:
            if self.process.poll() is not None:
                why.add_note(self.log_text()[-2000:]) if hasattr(why, "add_note") else None
            raise
        finally:
            connection.close()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, names, openapi_check.check(method, path, answer.status, names, data, sent=body)

    def _good(self, method, path, body=None, statuses=(200,)):
        status, _, answer = self.http(method, path, body)
        assert status in statuses, f"{method} {path}: {status} {answer}"
        return answer

    # ---- functions ---------------------------------------------------------------------------------------------------

    def deploy_request(self, source, settings):
        """The body of a deploy. Text becomes index.py with its main_handler; a dict is {path: content}."""
        files = {"index.py": textwrap.dedent(source)} if isinstance(source, str) else dict(source)
        wanted = {"runtime": "python", "handler": "index.main_handler", **settings}
        if self.collector:
            files.setdefault("collect.py", HANDLER_SIDE)
            wanted["env"] = {"COLLECT": self.collector.address, **wanted.get("env", {})}
        return {"settings": wanted, "package": base64.b64encode(package(files)).decode()}

    def try_deploy(self, name, source, **settings):
        """(status, body)"""
        status, _, body = self.http("PUT", f"/v1/functions/{name}", self.deploy_request(source, settings))
        return status, body

    def deploy(self, name, source, **settings):
        """The number of the version. Settings are named as in the API: timeoutMs=500, backoffMs=[50, 50, 50]."""
        status, body = self.try_deploy(name, source, **settings)
        assert status in (200, 201), f"deploy of {name}: {status} {body}"
        return body["version"]

    def delete(self, name):
        return self._good("DELETE", f"/v1/functions/{name}")

    def set_current(self, name, version):
        return self._good("POST", f"/v1/functions/{name}/current", {"version": version})

    # ---- events ------------------------------------------------------------------------------------------------------

    def _invocations(self, name, query):
        name, _, qualifier = name.partition(":")
        if qualifier:
            query["qualifier"] = qualifier
        return f"/v1/functions/{name}/invocations" + ("?" + urllib.parse.urlencode(query) if query else "")

    def invoke(self, name, data=None, headers=None, **query):
        """Sync; `name` or `name:version`. (status, headers, body)"""
        return self.http("POST", self._invocations(name, query), payload_bytes(data), headers)

    def send(self, name, data=None, headers=None, **query):
        """One async event; its id once it is durable."""
        path = self._invocations(name, {"invokeType": "Event", **query})
        status, _, body = self.http("POST", path, payload_bytes(data), headers)
        if status != 202:
            raise Refused(status, body)
        return body["requestId"]

    def send_async(self, name, payloads, accepted=None):
        """Many async events, thousands a request; returns their ids in order. Into the list `accepted`, if given, ids go as soon
        as they are known, for a test that breaks something meanwhile. Refused when one was not accepted."""
        ids = [] if accepted is None else accepted
        path = self._invocations(name, {"invokeType": "Event", "each": "line"})
        for lines in self._chunks(payloads):
            status, _, body = self.http("POST", path, b"\n".join(lines) + b"\n")
            if status != 202:
                refused = Refused(status, body)
                ids.extend(refused.accepted)
                raise refused
            assert len(body["requestIds"]) == len(lines)
            ids.extend(body["requestIds"])
        return ids

    @staticmethod
    def _chunks(payloads):
        lines, size = [], 0
        for data in payloads:
            line = payload_bytes(data)
            assert line.strip() and b"\n" not in line, "an event a line"
            if lines and (len(lines) >= LINES_A_REQUEST or size + len(line) > BYTES_A_REQUEST):
                yield lines
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        if lines:
            yield lines

    # ---- letters -----------------------------------------------------------------------------------------------------

    def letters(self, **filter):
        """Summaries over all pages, by default of the dead ones. function=, error=, state=, sinceMs=, untilMs="""
        found, cursor = [], None
        while True:
            query = {"limit": 1000, **filter, **({"cursor": cursor} if cursor else {})}
            page = self._good("GET", "/v1/letters?" + urllib.parse.urlencode(query))
            found += page["letters"]
            cursor = page["next"]
            if not cursor:
                return found

    def letter(self, id):
        return self._good("GET", f"/v1/letters/{id}")

    def wait_letters(self, count, seconds=30, **filter):
        """Waits until there are that many; returns them."""
        def look():
            found = self.letters(**filter)
            return found if len(found) >= count else None
        found = wait_until(look, seconds, lambda: f"{count} letters {filter} (there are {len(self.letters(**filter))})")
        assert len(found) == count, f"{len(found)} letters {filter} instead of {count}"
        return found

    def import_letters(self, letters):
        """Whole letters, as letter() gives them, a thousand a request."""
        for at in range(0, len(letters), 1000):
            answer = self._good("POST", "/v1/letters/import", {"letters": letters[at:at + 1000]})
            assert answer["refused"] == [], answer["refused"][:3]

    def start_replay(self, **spec):
        """The job as it was made."""
        return self._good("POST", "/v1/replays", spec, (201,))

    def replay_job(self, number):
        return self._good("GET", f"/v1/replays/{number}")

    def wait_replay(self, number, seconds=60, outcomes=False):
        """The job once it has ended; with `outcomes`: and all events that it sent, too."""
        def ended():
            job = self.replay_job(number)
            return job if job["endedMs"] and (not outcomes or job["ok"] + job["dead"] == job["sent"]) else None
        return wait_until(ended, seconds, lambda: f"replay {number} ends: {self.replay_job(number)}")

    def replay(self, outcomes=False, seconds=60, **spec):
        """Makes a replay and waits for its end."""
        return self.wait_replay(self.start_replay(**spec)["replay"], seconds, outcomes)

    def replay_letters(self, number, **query):
        """All letters of the job, in its order."""
        found, cursor = [], None
        while True:
            query = {"limit": 1000, **query, **({"cursor": cursor} if cursor else {})}
            page = self._good("GET", f"/v1/replays/{number}/letters?" + urllib.parse.urlencode(query))
            found += page["letters"]
            cursor = page["next"]
            if not cursor:
                return found

    # ---- looking -----------------------------------------------------------------------------------------------------

    def status(self):
        return self._good("GET", "/v1/status")

    def function_status(self, name):
        """What the status says about one function; {} when it is not there."""
        return next((fn for fn in self.status()["functions"] if fn["name"] == name), {})

    def metrics(self):
        """{'weir_events_ok_total{function="job"}': 12.0, …}"""
        text = self._good("GET", "/metrics")
        text = text.decode() if isinstance(text, bytes) else text
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def metric(self, name, label=None):
        """The value of a sample; `label` is the value of its one label. 0 when there is none."""
        return next((value for sample, value in self.metrics().items()
                     if sample == name or (label and sample.startswith(name + "{") and f'="{label}"' in sample)), 0.0)

    def logs(self, name, after=None, **query):
        """The lines of one page of a function's log, and the cursor behind them."""
        query = {"limit": 1000, **query, **({"after": after} if after is not None else {})}
        page = self._good("GET", f"/v1/functions/{name}/logs?" + urllib.parse.urlencode(query))
        return page["lines"], page["next"]

    def cli(self, *arguments, input=None, seconds=60):
        """`weir …` against this server: a CompletedProcess with texts."""
        return subprocess.run(
            [BIN, *map(str, arguments)], input=input, capture_output=True, text=True, timeout=seconds, cwd=self.dir,
            env={**self.env, "WEIR_SERVER": self.url, **({"WEIR_TOKEN": self.options["token"]} if self.options.get("token") else {})})
