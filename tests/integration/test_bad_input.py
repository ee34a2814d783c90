# SPDX-License-Identifier: Apache-2.0
"""Bad input gets a clear error and harms nothing: on a queue, over HTTP, in packages, settings and folders, and on a full disk."""
import base64
import http.client
import json
import os
import resource
import socket
import sqlite3
import subprocess
import time
import uuid

import pika
import pika.exceptions
import pytest
from server import BIN, FAST_RETRIES, RUNTIMES, Refused, Server, StartFailed, package
from waiting import wait_until

EVENT_TYPE = "application/vnd.weir.event+msgpack"
TELLS = """
    import json
    from collect import tell
    def main_handler(event, context):
        tell(context["request_id"], context["attempt"], json.dumps([event, context["headers"], context["source"]], default=repr).replace(" ", ""))
"""
HOLDS = """
    import os, time
    from collect import tell
    def main_handler(event, context):
        while not os.path.exists(event["until"]): time.sleep(0.01)
        tell(context["request_id"], context["attempt"])
"""


# ---- queues ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def channel(real_backend):
    connection = pika.BlockingConnection(pika.URLParameters(real_backend.amqp_url))
    opened = connection.channel()
    opened.confirm_delivery()
    yield opened
    if connection.is_open:
        connection.close()


def publish(channel, name, body, **properties):
    """Confirmed. The function's queue is declared soon after its deploy."""
    def accepted():
        try:
            channel.basic_publish("", f"weir.fn.{name}", body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)
            return True
        except (pika.exceptions.UnroutableError, pika.exceptions.NackError):
            return False
    wait_until(accepted, 20, "the broker takes the message")


BROKEN = {
    "empty": b"", "text": b"this is no event", "other_version": b"\x92\x02\x80", "cut": b"\x92\x01\x81\x01\xc4\x10abc",
    "no_id": b"\x92\x01\x80", "deep": b"\x91" * 5000, "long_claim": b"\x92\x01\xdf\xff\xff\xff\xff",
    "trailing": b"\x92\x01\x80\x00", "never_used": b"\xc1",
}


@pytest.mark.short
def test_a_sync_event_on_a_durable_queue_is_run_not_dropped(serve, collector, channel, real_backend):
    """Its publisher says that somebody waits (field 3) until a time that is over (field 6): nobody of ours does."""
    server = serve(backend=real_backend)
    server.deploy("job", TELLS)
    ident = uuid.uuid4()
    accepted = b"\x05\xcf" + int(time.time() * 1000).to_bytes(8, "big")
    body = b"\x92\x01\x86\x01\xc4\x10" + ident.bytes + b"\x03\x01" + accepted + b"\x06\x01\x07\xa3job\x11\xc4\x02{}"
    publish(channel, "job", body, content_type=EVENT_TYPE)
    collector.wait_for([str(ident)])
    assert server.letters(function="job") == []


def test_broken_msgpack_on_a_queue_becomes_a_letter(serve, collector, channel, real_backend):
    server = serve(backend=real_backend)
    server.deploy("job", TELLS)
    healthy = server.send_async("job", [{"n": n} for n in range(10)])
    for body in BROKEN.values():
        publish(channel, "job", body, content_type=EVENT_TYPE)
        healthy.append(server.send("job", {}))
    letters = server.wait_letters(len(BROKEN), function="job")
    assert {letter["kind"] for letter in letters} == {"undecodable"}
    kept = []
    for letter in letters:
        whole = server.letter(letter["id"])
        assert whole["errorType"] == "Undecodable" and whole["errorMessage"] and whole["attempts"] == 0
        kept.append(base64.b64decode(whole["payloadBase64"]) if "payloadBase64" in whole else whole["payload"].encode())
    assert sorted(kept) == sorted(BROKEN.values()), "their bytes are unchanged"
    collector.wait_for(healthy)
    assert collector.repeated(healthy) == {} and set(collector.counts()) == set(healthy)
    assert channel.queue_declare("weir.fn.job", passive=True).method.message_count == 0, "they do not come again"


def test_a_foreign_message_runs_as_raw_payload(serve, collector, channel, real_backend):
    server = serve(backend=real_backend)
    server.deploy("job", TELLS)
    publish(channel, "job", b'{"total": 5}', content_type="application/json", headers={"tenant": "acme", "count": 7},
            correlation_id="c-1", type="order.created")
    publish(channel, "job", b"\xff\xfe not JSON", content_type="application/octet-stream")
    publish(channel, "job", b'{"bare":true}')
    wait_until(lambda: len(collector.lines) == 3, 20, "the three ran")
    by_event = {json.dumps(told[0]): told for told in (json.loads(line.split(" ", 2)[2]) for line in collector.lines)}
    event, headers, source = by_event['{"total": 5}']
    assert headers["tenant"] == "acme" and headers["count"] == "7"
    assert headers["correlation-id"] == "c-1" and headers["type"] == "order.created" and headers["content-type"] == "application/json"
    assert "weir.fn.job" in json.dumps(source) and '{"bare": true}' in by_event
    assert any("xff" in event for event in by_event), "bytes that are no JSON come as bytes"
    wait_until(lambda: server.function_status("job")["unsettled"] == 0, 10, "all are settled")
    assert server.letters() == [] and server.letters(state="due") == []


def test_a_foreign_message_that_fails_is_retried_and_becomes_a_letter(serve, collector, channel, real_backend):
    server = serve(backend=real_backend)
    server.deploy("job", "def main_handler(event, context): return event['missing']", **FAST_RETRIES)
    publish(channel, "job", b'{"total": 5}', content_type="application/json", headers={"tenant": "acme"})
    letter, = server.wait_letters(1)
    whole = server.letter(letter["id"])
    assert (letter["attempts"], letter["errorType"], letter["source"]["kind"]) == (4, "KeyError", "amqp")
    assert whole["payload"] == '{"total": 5}' and ["tenant", "acme"] in whole["headers"] and whole["contentType"] == "application/json"


def test_a_broken_row_of_the_embedded_queue_becomes_a_letter(serve, collector, folder):
    server = serve({"sandbox": "none", "grace": "200ms"})
    release = folder / "release"
    server.deploy("job", HOLDS, maxInstances=1)
    ids = server.send_async("job", [{"until": str(release), "n": n} for n in range(10)])
    server.kill9()
    with sqlite3.connect(server.data / "weir.db") as db:
        number, = db.execute("SELECT id FROM queue_messages ORDER BY id LIMIT 1 OFFSET 5").fetchone()
        db.execute("UPDATE queue_messages SET body = x'92ff00beef' WHERE id = ?", (number,))
    db.close()
    release.touch()
    server.start()
    letter, = server.wait_letters(1)
    assert letter["kind"] == "undecodable"
    assert base64.b64decode(server.letter(letter["id"])["payloadBase64"]) == bytes.fromhex("92ff00beef")
    collector.wait_for(ids[:5] + ids[6:])


# ---- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def good(serve):
    server = serve({"request-timeout": "4s", "max-body": "8MiB"})  # a good client must not be cut off on a slow machine
    server.deploy("echo", "def main_handler(event, context): return event")
    return server


def raw(server, data, end=False, seconds=60):
    """The status and the JSON of what comes back; (None, None) when the connection just ends."""
    with socket.create_connection(("127.0.0.1", server.port), seconds) as connection:
        try:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # refused before all was sent: the answer may still be there
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            body = answer.read()
        except (http.client.BadStatusLine, ConnectionError):
            return None, None
        return answer.status, json.loads(body)


def still_serves(server):
    assert server.invoke("echo", {"n": 1})[::2] == (200, {"n": 1})


POST = b"POST /v1/functions/echo/invocations HTTP/1.1\r\nHost: x\r\n"
WRONG = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "no_http": (b"hello there\r\n\r\n", 400),
    "length_is_no_number": (POST + b"Content-Length: ten\r\n\r\n", 400),
    "length_is_negative": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "length_overflows": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", (400, 413)),
    "two_lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400),
    "length_and_chunks": (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "body_too_large": (POST + b"Content-Length: 9000000\r\n\r\n", 413),
    "chunks_too_large": (POST + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", 413),
    "chunk_is_no_number": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
    "body_shorter_than_its_length": (POST + b"Content-Length: 10\r\n\r\n{}", 408),
    "body_that_never_ends": (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", 408),
    "half_a_head": (b"POST /v1/functions/echo/invo", 408),
    "head_too_large": (POST + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n", 431),
    "many_headers": (POST + b"".join(b"X-%d: 1\r\n" % n for n in range(5000)) + b"\r\n", 431),
    "other_version": (b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", (400, 505)),
    "null_in_a_header": (POST + b"X-A: a\0b\r\nContent-Length: 2\r\n\r\n{}", 400),
    "no_host": (b"GET /v1/functions HTTP/1.1\r\n\r\n", 400),
    "other_method": (b"BREW /v1/functions HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405, 501)),
}


@pytest.mark.short
@pytest.mark.parametrize("case", WRONG)
def test_wrong_http_gets_a_clear_error(good, case):
    data, wanted = WRONG[case]
    status, body = raw(good, data)
    assert status in (wanted if isinstance(wanted, tuple) else (wanted,)), body
    assert body["code"] and len(body["message"]) > 10 and body["requestId"]
    still_serves(good)


def test_connections_that_break_off(good):
    for data in (b"", b"P", POST, POST + b"Content-Length: 10\r\n\r\n{}", POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"):
        assert raw(good, data, end=True)[0] in (None, 400, 408)
        with socket.create_connection(("127.0.0.1", good.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset rather than an end
            connection.sendall(data)
    still_serves(good)


def test_wrong_bodies_of_the_api(good):
    wrong = {"not_json": b"{", "list": b"[]", "deep": b"[" * 100000, "unknown": b'{"unknown": 1}', "ids": b'{"ids": ["x"]}',
             "type": b'{"ids": "all"}', "utf8": b'{"function": "\xff"}', "both": b'{"ids": [], "function": "a"}'}
    for path in ("/v1/replays", "/v1/letters/discard", "/v1/letters/purge"):
        for name, body in wrong.items():
            status, _, answer = good.http("POST", path, body, {"Content-Type": "application/json"})
            assert status == 400 and answer["message"], (path, name)
    for query in ("limit=0", "limit=x", "limit=99999999999999999999", "sinceMs=-1"):
        assert good.http("GET", f"/v1/letters?{query}")[0] == 400, query
    for query in ("invokeType=Maybe", "each=line", "invokeType=Event&each=word", "deadlineMs=0"):
        assert good.http("POST", f"/v1/functions/echo/invocations?{query}", b"{}")[0] == 400, query
    still_serves(good)


@pytest.mark.short
def test_a_thousand_slow_connections(good):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    slow = []
    try:
        for n in range(1000):
            connection = socket.create_connection(("127.0.0.1", good.port), 10)
            connection.sendall(POST if n % 2 else POST + b"Content-Length: 1000\r\n\r\n{")
            slow.append(connection)
        worst = 0.0
        for n in range(200):
            start = time.monotonic()
            assert good.invoke("echo", n)[::2] == (200, n)
            worst = max(worst, time.monotonic() - start)
            for connection in slow[n * 5:n * 5 + 5]:
                try:
                    connection.sendall(b"X")
                except ConnectionError:
                    pass  # it has been ended meanwhile
        assert worst < 20, f"a good client waited {worst:.1f} s, as if it came after some of the slow ones"
        answered = 0
        for connection in slow:
            connection.settimeout(60)
            try:
                answered += connection.recv(12) == b"HTTP/1.1 408"
            except ConnectionError:
                pass
        assert answered > 800, "they are told that their time is over"
    finally:
        for connection in slow:
            connection.close()
    wait_until(lambda: good.metric("weir_http_connections") <= 2, 20, "none is kept")
    still_serves(good)


def test_more_connections_than_allowed(serve):
    server = serve({"max-connections": 20, "request-timeout": "1s", "keepalive": "500ms"})
    many = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(200)]
    try:
        wait_until(lambda: all(ended(connection) for connection in many), 30, "all are refused or ended in the end")
    finally:
        for connection in many:
            connection.close()
    assert server.http("GET", "/healthz")[0] == 200


def ended(connection):
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


# ---- deploys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../evil.py", "a/../../evil.py", "/evil.py", "a/b/../../../../evil.py", "..", "a\0b"])
def test_a_package_that_wants_out_is_refused(serve, path):
    server = serve()
    status, body = server.try_deploy("evil", {"index.py": "def main_handler(event, context): return 1", path: "print(1)\n"})
    if path == "a\0b":  # a tar ends the name at the zero byte, so it is a harmless one
        assert status in (201, 400)
        return
    assert status == 400 and path in body["message"], body
    assert server.http("GET", "/v1/functions/evil")[0] == 404
    assert not list(server.dir.rglob("evil.py"))


def test_settings_and_packages_that_are_refused(serve):
    server = serve()
    fine = {"index.py": "def main_handler(event, context): return 1"}
    cases = {
        "runtime": ({"runtime": "cobol"}, "cobol"), "no_handler": ({"handler": ""}, "handler"),
        "handler": ({"handler": "index.nothing"}, "nothing"), "file": ({"handler": "other.main_handler"}, "other"),
        "leaves": ({"handler": "../x.main"}, "\\.\\."), "timeout": ({"timeoutMs": 0}, "timeoutMs"),
        "retries": ({"retries": -1}, "retries"), "backoff": ({"backoffMs": []}, "backoffMs"),
        "unknown": ({"colour": "red"}, "colour"), "type": ({"memoryMb": "much"}, "memoryMb"),
    }
    for name, (settings, word) in cases.items():
        status, body = server.try_deploy("fn", fine, **settings)
        assert status == 400 and word.replace("\\", "") in body["message"], (name, status, body)
    for archive in (b"", b"no archive at all", package(fine)[:60]):
        status, _, body = server.http("PUT", "/v1/functions/fn", {
            "settings": {"runtime": "python", "handler": "index.main_handler"}, "package": base64.b64encode(archive).decode()})
        assert status == 400 and body["message"], archive
    for name in ("1st", "under_", "a" * 61, "a.b", "..", "%2e%2e%2fx"):
        assert server.http("PUT", f"/v1/functions/{name}", server.deploy_request(fine, {}))[0] in (400, 404), name
    assert server.http("GET", "/v1/functions")[2]["functions"] == []


def test_a_syntax_error_is_told_and_changes_nothing(serve):
    server = serve()
    broken = "def main_handler(event, context):\n    x = 1\n    return (x\n"
    status, body = server.try_deploy("fn", {"index.py": broken})
    assert status == 400 and "SyntaxError" in body["message"] and "line 3" in body["message"] and "index.py" in body["message"]
    assert server.http("GET", "/v1/functions/fn")[0] == 404
    server.deploy("fn", "def main_handler(event, context): return 'old'")
    assert server.try_deploy("fn", {"index.py": broken})[0] == 400
    assert server.try_deploy("fn", {"index.py": "import nowhere_to_be_found\n"})[0] == 400
    assert server.invoke("fn", {})[::2] == (200, "old")
    assert len(server.http("GET", "/v1/functions/fn")[2]["versions"]) == 1
    (server.dir / "broken.py").write_text(broken)
    told = server.cli("deploy", server.dir / "broken.py")
    assert told.returncode == 1 and "line 3" in told.stderr


# ---- starting --------------------------------------------------------------------------------------------------------


def serve_fails(folder, *arguments, env=None):
    """(exit code, stderr) of a `weir serve` that ends by itself."""
    done = subprocess.run([BIN, "serve", "--data", str(folder / "data"), *map(str, arguments)], capture_output=True, text=True,
                          timeout=60, env={**os.environ, **RUNTIMES, **(env or {})}, cwd=folder)
    assert "listening" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("line, word", [("colour = red", "colour"), ("grace = soon", "grace"), ("credit = 0", "credit"),
                                        ("log-level = loud", "log-level"), ("no equals sign", "")])
def test_a_wrong_line_of_the_configuration_is_named(folder, line, word):
    path = folder / "weir.ini"
    path.write_text(f"; a comment\nlisten = 127.0.0.1:0\n{line}\ngrace = 5s\n")
    code, text = serve_fails(folder, "--config", path)
    assert code == 2 and f"{path}:3" in text and word in text, text


def test_wrong_options(folder):
    for arguments, word in ((["--colour", "red"], "colour"), (["--grace", "soon"], "grace"), (["--queue", "carrier-pigeon:"], "carrier"),
                            (["--config", "/nowhere.ini"], "/nowhere.ini"), (["stray"], "stray"), (["--grace"], "--grace")):
        code, text = serve_fails(folder, "--listen", "127.0.0.1:0", *arguments)
        assert code in (1, 2) and word in text, text
    code, text = serve_fails(folder, "--listen", "127.0.0.1:0", env={"WEIR_GRACE": "soon"})
    assert code == 2 and "WEIR_GRACE" in text


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_it_listens_elsewhere_only_with_a_token(folder, serve, address):
    code, text = serve_fails(folder, "--listen", address)
    assert code in (1, 2) and "token" in text


def test_a_token_is_asked_for(serve):
    server = serve({"listen": "0.0.0.0:0", "token": "right horse"})
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer right horse2"},
                    {"Authorization": "Basic right horse"}, {"Authorization": "Bearer "}):
        for method, path in (("GET", "/v1/functions"), ("GET", "/metrics"), ("GET", "/v1/config"), ("POST", "/v1/replays"),
                             ("POST", "/v1/functions/x/invocations")):
            status, _, body = server.http(method, path, b"{}" if method == "POST" else None, headers)
            assert status == 401 and "token" in body["message"], (path, headers)
    assert server.http("GET", "/healthz", headers={"Authorization": ""})[0] == 200
    assert server.http("GET", "/v1/functions")[0] == 200
    assert "right horse" not in json.dumps(server.http("GET", "/v1/config")[2])
    assert server.cli("fn", "list").returncode == 0
    assert server.cli("fn", "list", "--token", "wrong").returncode == 1


def test_a_data_folder_has_one_server(serve):
    first = serve()
    first.deploy("echo", "def main_handler(event, context): return event")
    second = Server(first.dir, {"listen": "127.0.0.1:0"}, start=False)
    second.log_path = first.dir / "second.log"
    with pytest.raises(StartFailed) as failed:
        second.start()
    assert failed.value.exit_code == 1 and "in use" in failed.value.log and str(first.pid) in failed.value.log
    still_serves(first)


def test_an_address_in_use_is_told(serve):
    first = serve()
    second = serve({"listen": f"127.0.0.1:{first.port}"}, start=False)
    with pytest.raises(StartFailed) as failed:
        second.start()
    assert failed.value.exit_code == 1 and str(first.port) in failed.value.log and "in use" in failed.value.log


# ---- a full disk -----------------------------------------------------------------------------------------------------


def may_mount():
    return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0


class SmallDisk(Server):
    """Its data is on a disk of 24 MiB of its own, half of it ballast; where nothing may be mounted, files may not grow past 12 MiB."""

    SIZE = 24 << 20

    def command(self):
        self.mounted = may_mount()
        line = 'exec "$@"'
        self.data.mkdir(exist_ok=True)
        if self.mounted:
            line = f"mount -t tmpfs -o size={self.SIZE} none {self.data} && head -c {self.SIZE // 2} /dev/zero > {self.data}/ballast && {line}"
            return ["unshare", "-m", "--propagation", "private", "sh", "-c", line, "sh", *super().command()]
        return ["sh", "-c", f"trap '' XFSZ; ulimit -S -f {self.SIZE // 2 // 512}; {line}", "sh", *super().command()]

    def make_room(self):
        if self.mounted:
            os.unlink(f"/proc/{self.pid}/root{self.data}/ballast")
        else:
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.short
def test_a_full_disk_refuses_and_recovers(folder, collector):
    server = SmallDisk(folder / "server", {"sandbox": "none"}, collector=collector)
    try:
        release = folder / "release"
        server.deploy("echo", "def main_handler(event, context): return event")
        server.deploy("job", HOLDS, maxInstances=1)
        accepted = []
        refused = None
        for _ in range(200):
            try:
                server.send_async("job", [{"until": str(release), "filling": "x" * 50000}] * 20, accepted=accepted)
            except Refused as why:
                refused = why
                break
        assert refused and refused.status == 507 and refused.body["message"], "the disk is full, and the sender is told so"
        assert accepted, "before that there was room"
        still_serves(server)
        assert server.http("GET", "/healthz")[0] == 200
        server.make_room()

        def takes_again():
            try:
                accepted.append(server.send("job", {"until": str(release)}))
                return True
            except Refused as why:
                assert why.status in (507, 503, 429)
                return False
        wait_until(takes_again, 60, "events are taken again when there is room")
        release.touch()
        collector.wait_for(accepted, 60)
        assert collector.repeated(accepted) == {} and server.letters() == []
        wait_until(lambda: server.function_status("job")["waiting"] == 0, 20, "the queue is empty")
        assert server.stop() == 0
    finally:
        if server.alive:
            server.kill9()
