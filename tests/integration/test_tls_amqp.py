# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ over TLS: the main queue and triggers at amqps://, what is refused, and how weir says so. The node is this file's own."""
import json
import re
import socket

import pytest

import conftest
from pipeline import ALONE, FUNCTION, Journal, add, check_once, deploy, try_add
from server import Refused
from test_amqp_trigger import Broker, numbered, settled, source, wait_empty
from tls import Front, check_secret
from waiting import wait_until

USER, PASSWORD = "clerk", "pass-2f61"
COUNT = 600


class TlsRabbitMQ(conftest.ManagedRabbitMQ):
    def start(self):
        self._run("start", "--management", "--tls")
        return super().start()

    @property
    def tls_port(self):
        return int((self.dir / "port-tls").read_text())


class TlsBroker(Broker):
    """With a user whose password is nobody else's, so that it can be looked for."""

    def __init__(self, mq):
        super().__init__(mq)
        self.certificates = mq.dir / "tls"
        mq.call("PUT", f"/api/users/{USER}", json.dumps({"password": PASSWORD, "tags": ""}).encode())
        mq.call("PUT", f"/api/permissions/{self.vhost}/{USER}", b'{"configure":".*","write":".*","read":".*"}')

    def at(self, scheme="amqps", host="localhost", port=None, password=PASSWORD, ca="ca"):
        query = f"?cacert={self.certificates / ca}.pem" if ca else ""
        return f"{scheme}://{USER}:{password}@{host}:{port or self.mq.tls_port}/{self.vhost}{query}"


@pytest.fixture(scope="module")
def node():
    with TlsRabbitMQ() as mq:
        yield mq


@pytest.fixture
def broker(node):
    made = TlsBroker(node)
    yield made
    node.call("DELETE", f"/api/vhosts/{made.vhost}")


@pytest.fixture
def journal(broker, collector):
    return Journal(collector)


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# ---- what works --------------------------------------------------------------------------------------------------------


def test_the_main_queue(serve, broker, journal):
    """Events go in, some of them larger than many records of TLS; the connections break again and again."""
    with Front(broker.mq.tls_port) as door:
        server = serve({**ALONE, "queue": broker.at(port=door.port)})
        server.deploy(FUNCTION, """
            import time
            from collect import tell
            def main_handler(event, context):
                tell("ok", time.monotonic_ns(), context["attempt"], event["n"])
        """)
        accepted, n = 0, 0

        def send():
            nonlocal accepted, n
            try:
                server.send(FUNCTION, {"n": n, "data": "x" * (3 << 20 if n % 20 == 0 else n)})
                accepted = n = n + 1
            except Refused as why:  # the connection is away; what may have been stored all the same runs twice at most
                assert why.status == 503, why
        for part in range(3):
            wait_until(lambda: send() or accepted >= 20 * (part + 1), 60, lambda: f"events are accepted: {accepted}")
            assert door.cut(), "there was no connection"
            if part == 0:
                wait_until(lambda: "is lost" in server.log_text(), 60, "it is noticed")
        journal.wait_ok(range(accepted))
        ups = len(re.findall("publishing connection is up", server.log_text()))
        assert ups >= 2, "it has reconnected"
        assert server.letters() == []
        check_secret(server, PASSWORD)


def test_a_trigger(serve, broker, journal):
    server = serve(ALONE)
    deploy(server)
    queue, results = broker.declare("orders", "quorum"), broker.declare("results")
    broker.publish(queue, numbered(0, COUNT) + [{"n": COUNT, "data": "x" * (3 << 20)}])
    name = add(server, "amqp", url=broker.at(), queue=queue, batch=20, on_success=f"amqp:/{results}")
    journal.wait_ok(range(COUNT + 1))
    wait_empty(server, broker, name, queue)
    check_once(journal, range(COUNT + 1))
    wait_until(lambda: [each for each in broker.connections() if each.endswith(f":{broker.mq.tls_port}")], 60, "RabbitMQ lists weir's connections")
    broker.close_connections()
    wait_until(lambda: "CONNECTION_FORCED" in server.log_text(), 60, "the connection is closed")
    broker.publish(queue, numbered(COUNT + 1, 50))
    journal.wait_ok(range(COUNT + 51))
    settled(server, broker, name, queue)
    assert broker.depth(results) >= (COUNT + 51) // 20, "results go out over TLS too"
    check_secret(server, PASSWORD, name)


# ---- what is refused ---------------------------------------------------------------------------------------------------


def test_refusals_say_what_to_do(serve, broker):
    server = serve(ALONE)
    deploy(server)
    queue = broker.declare("orders")
    tls = broker.certificates
    with Front(broker.mq.port, tls / "expired.pem", tls / "expired.key") as expired:
        wrong = [
            (broker.at(ca="other"), 503, "none of the authorities in .*other.pem has signed it", "a CA that did not sign it"),
            (broker.at(ca=None), 503, "none of the authorities in /etc/ssl/.* has signed it; .?cacert=FILE", "the system's CAs"),
            (broker.at(port=expired.port), 503, "has expired", "an expired certificate"),
            (broker.at(host="127.0.0.1"), 503, "does not name that host; the URL needs one of its DNS names", "another host's certificate"),
            (broker.at(port=broker.mq.port), 503, "no TLS handshake .* Without TLS the URL is amqp://", "TLS to a port without"),
            (broker.at("amqp", ca=None), 503, "is the port one for TLS. Then the URL is amqps://", "no TLS to a port for it"),
            (broker.at(password="wrong-" + PASSWORD), 400, "ACCESS_REFUSED", "a wrong password"),
            (broker.at(ca="nowhere"), 503, "cannot read the CA certificates in .*nowhere.pem", "no such file"),
            (broker.at(ca="server").replace("server.pem", "server.key"), 503, "cannot read the CA certificates", "a file of something else"),
            (broker.at(port=closed_port()), 503, "cannot connect to RabbitMQ", "nobody there"),
        ]
        for url, expected, text, why in wrong:
            status, body = try_add(server, "amqp", url=url, queue=queue)
            assert status == expected, f"{why}: {status} {body}"
            assert re.search(text, body["message"]), f"{why}: {body['message']!r} does not say {text!r}"
            assert PASSWORD not in body["message"]
    assert server.http("GET", "/v1/triggers")[2]["triggers"] == []
    check_secret(server, PASSWORD)
    name = add(server, "amqp", url=broker.at(ca="other"), queue=queue, check="no")
    error = wait_until(lambda: source(server, name)["error"], 60, "lag says what a trigger that was not checked fails of")
    assert "has signed it" in error
    check_secret(server, PASSWORD, name)


def test_a_server_says_why_its_queue_is_away(serve, broker):
    server = serve({**ALONE, "queue": broker.at(ca="other")}, start=False)
    server.launch()
    server.wait_listening()
    wait_until(lambda: re.search("cannot publish to RabbitMQ.*other.pem has signed it", server.log_text()), 60, "the log says it")
    server.deploy(FUNCTION, "def main_handler(event, context): return event")
    with pytest.raises(Refused) as refused:
        server.send(FUNCTION, {"n": 1})
    assert refused.value.status == 503
    check_secret(server, PASSWORD)
