# SPDX-License-Identifier: Apache-2.0
"""Kafka over TLS, with client certificates, and with logins: what works, what is refused, and how weir says so. The broker is this
file's own; the tests themselves read and write at its plain listener."""
import json
import re

import pytest

from kafka import Kafka
from pipeline import ALONE, Journal, Line, add, check_once, deploy, record, try_add
from tls import Front, check_secret
from waiting import wait_until

PASSWORD = "kafka-secret"  # of tests/services/kafka
BAD_CERTIFICATE = "certificate verify failed"
ADVICE = f"signed by no authority of kafka.ssl.ca.location, is for another host, or has expired.*{BAD_CERTIFICATE}"


class TlsKafka(Kafka):
    def start(self):
        self.url = self._run("start", "--tls").splitlines()[0]
        return self.url

    def at(self, listener, host="localhost"):
        return f"{host}:{(self.dir / f'port-{listener}').read_text().strip()}"

    def tls(self, name):
        return str(self.dir / "tls" / name)

    def ssl(self, ca="ca"):
        return {"kafka.security.protocol": "SSL", "kafka.ssl.ca.location": self.tls(ca + ".pem")}

    def client_certificate(self):
        return {"kafka.ssl.certificate.location": self.tls("client.pem"), "kafka.ssl.key.location": self.tls("client.key")}

    def sasl(self, mechanism="SCRAM-SHA-512", protocol="SASL_SSL", password=PASSWORD, ca="ca"):
        login = {"kafka.sasl.mechanism": mechanism, "kafka.sasl.username": "weir", "kafka.sasl.password": password}
        return {**(self.ssl(ca) if protocol == "SASL_SSL" else {}), **login, "kafka.security.protocol": protocol}


@pytest.fixture(scope="module")
def kafka_broker():
    with TlsKafka() as broker:
        yield broker


@pytest.fixture
def server(serve):
    return serve(ALONE)


@pytest.fixture
def journal(collector):
    return Journal(collector)


def numbered(first, count):
    return [record(b"key-%d" % (n % 7), n=n) for n in range(first, first + count)]


def test_listeners_and_logins(kafka, server, topic, journal):
    """A trigger at each of them, and results that go to a topic by the same settings."""
    ways = [
        ("ssl", kafka.ssl()),
        ("mtls", {**kafka.ssl(), **kafka.client_certificate()}),
        ("sasl-ssl", kafka.sasl("PLAIN")),
        ("sasl-ssl", kafka.sasl("SCRAM-SHA-256")),
        ("sasl-ssl", kafka.sasl("SCRAM-SHA-512")),
        ("sasl-plain", kafka.sasl("SCRAM-SHA-512", "SASL_PLAINTEXT")),
    ]
    deploy(server)
    at, results, names = 0, topic(), []
    for listener, settings in ways:
        line = Line(kafka, server, topic(2))
        line.produce(numbered(at, 20))
        line.add(brokers=kafka.at(listener), on_success=f"kafka:{results}", batch=1, commit="100ms", **settings)
        line.produce(numbered(at + 20, 20))
        line.wait_committed()
        names.append(line.name)
        at += 40
    sent = kafka.consume(results)
    assert len(sent) == at and all(json.loads(each.value)["count"] == 1 for each in sent)
    assert server.letters() == [] and journal.bad == []
    check_secret(server, PASSWORD, *names)


def test_refusals_say_what_to_do(kafka, server, topic):
    deploy(server)
    name = topic()
    with Front(kafka.port, kafka.tls("expired.pem"), kafka.tls("expired.key")) as expired:
        wrong = [
            (kafka.at("ssl"), kafka.ssl("other"), 503, ADVICE, "a CA that did not sign it"),
            (kafka.at("ssl"), {"kafka.security.protocol": "SSL"}, 503, ADVICE, "the system's CAs"),
            (kafka.at("ssl", "127.0.0.1"), kafka.ssl(), 503, ADVICE, "another host's certificate"),
            (f"localhost:{expired.port}", kafka.ssl(), 503, ADVICE, "an expired certificate"),
            (kafka.at("mtls"), kafka.ssl(), 503, "certificate|Disconnected|reset", "no client certificate"),
            (kafka.at("ssl"), {}, 503, "security.protocol .*SSL listener", "no TLS to a port for it"),
            (kafka.url.replace("127.0.0.1", "localhost"), kafka.ssl(), 503, "is the port one without .kafka.security.protocol", "TLS to a port without"),
            (kafka.at("sasl-ssl"), kafka.ssl(), 503, "might require SASL", "no login where one is wanted"),
            (kafka.at("sasl-ssl"), kafka.sasl("PLAIN", password="wrong-" + PASSWORD), 400, "Invalid username or password", "a wrong password"),
            (kafka.at("sasl-plain"), kafka.sasl("SCRAM-SHA-512", "SASL_PLAINTEXT", "wrong-" + PASSWORD), 400, "invalid credentials",
             "a wrong password"),
            (kafka.at("sasl-ssl"), kafka.sasl("GSSAPI"), 400, "", "a login that the broker does not offer"),
            (kafka.at("ssl"), kafka.ssl("nowhere"), 400, "kafka.ssl.ca.location: cannot read .*nowhere.pem", "no such file"),
        ]
        for brokers, settings, expected, text, why in wrong:
            status, body = try_add(server, "kafka", brokers=brokers, topic=name, **settings)
            assert status == expected, f"{why}: {status} {body}"
            assert re.search(text, body["message"]), f"{why}: {body['message']!r} does not say {text!r}"
            assert PASSWORD not in body["message"]
    assert server.http("GET", "/v1/triggers")[2]["triggers"] == []
    check_secret(server, PASSWORD)


@pytest.mark.parametrize("what, text", [("ca", BAD_CERTIFICATE), ("password", "invalid credentials")])
def test_a_trigger_that_is_refused_later_says_why_and_goes_on(kafka, server, topic, journal, what, text):
    deploy(server)
    line = Line(kafka, server, topic())
    places = line.produce(numbered(0, 10))
    line.add(brokers=kafka.at("sasl-ssl"), check="no", **kafka.sasl(password="x" + PASSWORD if what == "password" else PASSWORD,
                                                                     ca="other" if what == "ca" else "ca"))
    wait_until(lambda: text in server.log_text(), what="the log says why")
    check_secret(server, PASSWORD, line.name)
    status, _, answer = server.http("PATCH", f"/v1/triggers/{line.name}", {"settings": kafka.sasl()})
    assert status == 200, answer
    journal.wait_ok(places)
    line.wait_committed()
    check_once(journal, places)
    check_secret(server, PASSWORD, line.name)
