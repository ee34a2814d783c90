# SPDX-License-Identifier: Apache-2.0
"""AMQP queues of others consumed in place, on a real RabbitMQ: classic and quorum queues, an exchange, batches, and a broker that
restarts, deletes queues, closes connections or says nothing."""
import contextlib
import itertools
import json
import signal
import time
import urllib.error
import urllib.parse

import pika
import pika.exceptions
import pytest

from pipeline import ALONE, FUNCTION, MENDED, Journal, act, add, check_once, cpu_seconds, deploy, lag, remove, try_add
from waiting import stays, wait_until

COUNT = 1500
_numbers = itertools.count(1)


class Broker:
    """A virtual host of the test's own, seen from outside."""

    def __init__(self, mq):
        self.mq, self.vhost = mq, f"trigger_{next(_numbers)}"
        mq.call("PUT", f"/api/vhosts/{self.vhost}")
        mq.call("PUT", f"/api/permissions/{self.vhost}/guest", b'{"configure":".*","write":".*","read":".*"}')

    @property
    def url(self):
        return self.mq.url + self.vhost

    @contextlib.contextmanager
    def channel(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            if connection.is_open:
                connection.close()

    def declare(self, queue, kind="classic", **arguments):
        with self.channel() as channel:
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind, **arguments})
        return queue

    def publish(self, routing_key, bodies, exchange="", **properties):
        """Returns when the broker has confirmed them all."""
        with self.channel() as channel:
            for body in bodies:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                channel.basic_publish(exchange, routing_key, data, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)

    def _look(self, queue):
        with self.channel() as channel:
            try:
                return channel.queue_declare(queue, passive=True).method
            except pika.exceptions.ChannelClosedByBroker:
                return None

    def depth(self, queue):
        """Messages that are ready; None: there is no such queue."""
        found = self._look(queue)
        return found and found.message_count

    def consumers(self, queue):
        found = self._look(queue)
        return found.consumer_count if found else 0

    def connections(self):
        """Their names, some seconds late."""
        return [each["name"] for each in json.loads(self.mq.call("GET", f"/api/vhosts/{self.vhost}/connections"))]

    def close_connections(self):
        """As `rabbitmqctl close_all_connections` does."""
        for name in self.connections():
            try:
                self.mq.call("DELETE", "/api/connections/" + urllib.parse.quote(name, safe=""))
            except urllib.error.HTTPError as why:
                if why.code != 404:  # one of the test's own, that is closed
                    raise


@pytest.fixture
def broker(rabbitmq):
    rabbitmq.resume()
    rabbitmq.start()
    made = Broker(rabbitmq)
    yield made
    rabbitmq.resume()
    rabbitmq.start()
    rabbitmq.call("DELETE", f"/api/vhosts/{made.vhost}")


@pytest.fixture
def server(broker, serve):  # stopped before the virtual host goes
    return serve(ALONE)


@pytest.fixture
def journal(collector):
    return Journal(collector)


def numbered(first, count, **body):
    return [{"n": n, **body} for n in range(first, first + count)]


def source(server, name):
    return lag(server, name)["source"]


def wait_empty(server, broker, name, queue):
    """Nothing is ready, and nothing was taken that is not acknowledged."""
    def empty():
        told = lag(server, name)
        return broker.depth(queue) == 0 and told["binding"]["inFlight"] == 0
    wait_until(empty, 30, lambda: f"{queue} is empty: {broker.depth(queue)}, {lag(server, name)}")


def settled(server, broker, name, queue):
    """Nothing comes back when the consumer goes: all was acknowledged."""
    wait_empty(server, broker, name, queue)
    act(server, name, "pause")
    wait_until(lambda: broker.consumers(queue) == 0, 30, "the consumer is gone")
    assert broker.depth(queue) == 0, "messages were not acknowledged"




# ---- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("batch", [1, 50])
def test_each_message_is_done_once_and_poison_becomes_letters(server, broker, journal, kind, batch):
    deploy(server, maxInstances=4, retries=2, env={"CALLS": "1"})
    queue = broker.declare("orders", kind)
    broker.publish(queue, [{"n": n, **({"poison": True} if n % 100 == 50 else {})} for n in range(COUNT)])
    name = add(server, "amqp", url=broker.url, queue=queue, prefetch="auto", batch=batch)
    good = [n for n in range(COUNT) if n % 100 != 50]
    journal.wait_ok(good)
    letters = server.wait_letters(COUNT // 100, 60)
    wait_empty(server, broker, name, queue)
    check_once(journal, good)
    assert max(len(call.places) for call in journal.calls) <= batch
    assert {letter["attempts"] for letter in letters} == {3} and {letter["errorType"] for letter in letters} == {"ValueError"}
    for letter in letters[:3]:
        whole = server.letter(letter["id"])
        n = json.loads(whole["payload"])["n"] if isinstance(whole["payload"], str) else whole["payload"]["n"]
        assert all(f"poison at {n}" in each["errorMessage"] for each in whole["history"]), "another message's traceback"
    assert server.metric("weir_events_ok_total", FUNCTION) == len(good)
    settled(server, broker, name, queue)


def test_batches_are_filled(server, broker, journal):
    deploy(server, env={"CALLS": "1"})
    queue = broker.declare("orders", "quorum")
    broker.publish(queue, numbered(0, 500))
    name = add(server, "amqp", url=broker.url, queue=queue, batch=100, window="500ms", prefetch=1000)
    journal.wait_ok(range(500))
    assert max(len(call.places) for call in journal.calls) == 100
    check_once(journal, range(500))
    settled(server, broker, name, queue)


@pytest.mark.short
def test_an_exchange_gets_a_queue_of_its_own(server, broker, journal):
    deploy(server)
    with broker.channel() as channel:
        channel.exchange_declare("shop", "topic", durable=True)
    name = add(server, "amqp", url=broker.url, exchange="shop", binding="order.#")
    queue = f"weir.trigger.{name}"
    wait_until(lambda: broker.consumers(queue) == 1, 20, f"{queue} is declared, bound and consumed from")
    broker.publish("order.new", numbered(0, 10), exchange="shop")
    with broker.channel() as channel:
        channel.basic_publish("shop", "offer.new", b'{"n": 99}')
    broker.publish("order.old", numbered(10, 10), exchange="shop")
    journal.wait_ok(range(20))
    wait_empty(server, broker, name, queue)
    check_once(journal, range(20))
    remove(server, name)
    wait_until(lambda: broker.depth(queue) is None, 30, "the queue goes with its trigger")


def test_properties_and_coordinates_are_kept(server, broker, collector):
    server.deploy("see", """
        import json
        from collect import tell
        def main_handler(event, context):
            seen = {"headers": context["headers"], "source": context["source"], "event": event}
            tell("saw", json.dumps(seen).replace(" ", ""))
            raise ValueError("see")
    """, retries=0)
    with broker.channel() as channel:
        channel.exchange_declare("shop", "topic", durable=True)
    queue = broker.declare("orders", "quorum")
    with broker.channel() as channel:
        channel.queue_bind(queue, "shop", "order.#")
    name = add(server, "amqp", "see", url=broker.url, queue=queue, shape="raw")
    broker.publish("order.new", [{"n": 1}], exchange="shop", correlation_id="c1", message_id="m1", content_type="application/json",
                   headers={"tenant": "acme", "count": 7})
    letter, = server.wait_letters(1)
    words = wait_until(lambda: collector.about("saw"), 20, "it ran")[0]
    seen = json.loads(words[1])
    assert seen["event"] == {"n": 1} and seen["source"]["kind"] == "amqp" and seen["source"]["name"] == name
    assert seen["headers"]["correlation-id"] == "c1" and seen["headers"]["tenant"] == "acme" and seen["headers"]["count"] == "7"
    at = letter["source"]["at"]
    at = json.loads(at) if isinstance(at, str) else at
    assert (at["queue"], at["exchange"], at["routingKey"]) == (queue, "shop", "order.new")
    assert letter["source"]["kind"] == "amqp"


def test_odd_messages(server, broker, collector):
    server.deploy("see", """
        import base64
        from collect import tell
        def main_handler(event, context):
            for messages in event["rmqMessagesByQueue"].values():
                for message in messages:
                    tell("saw", "b64" + message["data"])
    """)
    queue = broker.declare("odd", "classic")
    name = add(server, "amqp", "see", url=broker.url, queue=queue, shape="lambda")
    bodies = [b"", b"\xff\x00\xfe", b"{not json", "żółć".encode(), b"x" * (1 << 20)]
    broker.publish(queue, bodies)
    broker.publish(queue, [b"many headers"], headers={f"h{n}": str(n) for n in range(1000)})
    wait_until(lambda: collector.count("saw") == len(bodies) + 1, 30, lambda: f"all are delivered: {lag(server, name)} {server.letters()}")
    broker.publish(queue, [b"y" * (10 << 20)])
    letter, = server.wait_letters(1)
    assert letter["errorType"] == "TooLarge"
    settled(server, broker, name, queue)


@pytest.mark.short
def test_wrong_settings_are_explained(server, broker):
    deploy(server)
    queue = broker.declare("orders")
    broker.declare("log", "stream")
    wrong = [
        ({"queue": "log"}, 400, "stream"),
        ({"queue": "nowhere"}, 404, "nowhere"),
        ({"queue": "", "exchange": "nowhere"}, 404, "nowhere"),
        ({"exchange": "amq.topic"}, 400, "exchange"),
        ({"queue": ""}, 400, "queue"),
        ({"url": "http://x/"}, 400, "amqp"),
        ({"url": broker.url.replace("guest:guest", "guest:secret")}, 400, "refused"),
        ({"url": "amqp://guest:guest@127.0.0.1:1/"}, 503, "127.0.0.1"),
        ({"url": broker.mq.url + "no-such-vhost"}, (400, 404), "no-such-vhost"),
        ({"prefetch": "0"}, 400, "prefetch"),
        ({"topic": "t"}, 400, "kafka"),
        ({"quue": "q"}, 400, "queue"),
    ]
    for settings, statuses, text in wrong:
        status, body = try_add(server, "amqp", **{"url": broker.url, "queue": queue, **settings})
        assert status in (statuses if isinstance(statuses, tuple) else (statuses,)), f"{settings}: {status} {body}"
        assert text in body["message"], f"{settings}: {body['message']!r} does not say {text!r}"
        assert "secret" not in body["message"]
    assert server.http("GET", "/v1/triggers")[2]["triggers"] == []
    name = add(server, "amqp", url=broker.url, queue=queue)
    assert ":guest@" not in json.dumps(server.http("GET", f"/v1/triggers/{name}")[2]), "the password is shown"


def test_declare(server, broker, journal):
    deploy(server)
    name = add(server, "amqp", url=broker.url, queue="made", declare="yes")
    wait_until(lambda: broker.depth("made") == 0, 20, "the queue is made")
    broker.publish("made", numbered(0, 10))
    journal.wait_ok(range(10))
    settled(server, broker, name, "made")


def test_slow_handlers_leave_messages_for_others(server, broker, journal, folder):
    """prefetch=auto follows the pool."""
    gate = folder / "gate"
    deploy(server, maxInstances=2)
    queue = broker.declare("orders", "quorum")
    broker.publish(queue, numbered(0, 1000, hold=str(gate)))
    name = add(server, "amqp", url=broker.url, queue=queue, prefetch="auto", batch=1)
    wait_until(lambda: lag(server, name)["binding"]["inFlight"] >= 2, 30, "handlers run")
    stays(lambda: broker.depth(queue) >= 500, 1, lambda: f"one slow node took nearly all: {broker.depth(queue)} are left")
    gate.touch()
    journal.wait_ok(range(1000))
    check_once(journal, range(1000))
    settled(server, broker, name, queue)


def test_replay_to_the_origin(server, broker, journal):
    deploy(server, retries=0)
    queue = broker.declare("orders", "quorum")
    name = add(server, "amqp", url=broker.url, queue=queue)
    broker.publish(queue, numbered(0, 5, poison=True), headers={"tenant": "acme"})
    server.wait_letters(5)
    deploy(server, MENDED, retries=0)
    assert server.replay(function=FUNCTION, toOrigin=True)["sent"] == 5
    journal.wait_ok(range(5))
    check_once(journal, range(5))
    assert server.letters() == []
    settled(server, broker, name, queue)


def test_results_and_letters_go_to_exchanges(server, broker, journal):
    deploy(server, retries=0)
    queue = broker.declare("orders")
    for name in ("good", "bad"):
        broker.declare(name)
    with broker.channel() as channel:
        channel.exchange_declare("results", "direct", durable=True)
        for name in ("good", "bad"):
            channel.queue_bind(name, "results", name)
    name = add(server, "amqp", url=broker.url, queue=queue, batch=1, on_success="amqp:results/good", on_failure="amqp:results/bad")
    broker.publish(queue, numbered(0, 20) + numbered(20, 3, poison=True))
    journal.wait_ok(range(20))
    server.wait_letters(3)
    settled(server, broker, name, queue)
    assert (broker.depth("good"), broker.depth("bad")) == (20, 3)
    with broker.channel() as channel:
        _, properties, body = channel.basic_get("good", auto_ack=True)
    assert json.loads(body)["count"] == 1 and any("id" in header.lower() for header in properties.headers)


# ---- trouble -----------------------------------------------------------------------------------------------------------


def check_nothing_lost(server, broker, journal, name, queue, count, poison=()):
    good = [n for n in range(count) if n not in set(poison)]
    journal.wait_ok(good, 90)
    wait_empty(server, broker, name, queue)
    assert journal.missing(good) == []
    print(f"\n{count} messages, {len(journal.repeated())} duplicates")


@pytest.mark.parametrize("kind, how", [("classic", "stop"), ("quorum", "kill")])
def test_rabbitmq_restarts(server, broker, journal, kind, how):
    deploy(server, maxInstances=2)
    queue = broker.declare("orders", kind)
    name = add(server, "amqp", url=broker.url, queue=queue, batch=20)
    broker.publish(queue, numbered(0, COUNT, ms=0.3))
    wait_until(lambda: journal.ok_count >= 100, 30, "it is under way")
    if kind == "quorum":
        broker.mq.wait_killable(broker.vhost, queue)
    broker.publish(queue, numbered(COUNT, 500, ms=0.3))
    log_at, cpu, begin = len(server.log_text()), cpu_seconds(server), time.monotonic()
    (broker.mq.stop if how == "stop" else broker.mq.kill9)()
    wait_until(lambda: not source(server, name)["up"], 20, lambda: f"lag says that it is away: {lag(server, name)}")
    broker.mq.start()
    took, spent = time.monotonic() - begin, cpu_seconds(server) - cpu
    back = time.monotonic()
    broker.publish(queue, numbered(COUNT + 500, 100))
    wait_until(lambda: not journal.missing([COUNT + 599]), 90, "consumption goes on")
    print(f"\n{kind}, {how}: goes on {time.monotonic() - back:.1f} s after the return, {spent:.2f} s of CPU in {took:.0f} s")
    check_nothing_lost(server, broker, journal, name, queue, COUNT + 600)
    assert spent < took / 2, f"{spent:.1f} s of CPU in {took:.1f} s: a hot loop"
    assert server.log_text()[log_at:].count("\n") < 60


@pytest.mark.parametrize("own", [True, False], ids=["of the trigger's own", "of somebody else"])
def test_the_queue_is_deleted(server, broker, journal, own):
    deploy(server)
    if own:
        with broker.channel() as channel:
            channel.exchange_declare("shop", "topic", durable=True)
        name = add(server, "amqp", url=broker.url, exchange="shop")
        queue, exchange = f"weir.trigger.{name}", "shop"
        wait_until(lambda: broker.consumers(queue) == 1, 20, "it is declared, bound and consumed from")
    else:
        queue, exchange = broker.declare("orders", "quorum"), ""
        name = add(server, "amqp", url=broker.url, queue=queue)
    broker.publish(queue, numbered(0, 50), exchange=exchange)
    journal.wait_ok(range(50))
    wait_empty(server, broker, name, queue)
    cpu, begin = cpu_seconds(server), time.monotonic()
    with broker.channel() as channel:
        channel.queue_delete(queue)
    if not own:
        wait_until(lambda: source(server, name)["error"], 30, lambda: f"lag says that the queue is gone: {lag(server, name)}")
        stays(lambda: server.alive, 3)
        assert cpu_seconds(server) - cpu < (time.monotonic() - begin) / 2, "a hot loop"
        broker.declare(queue, "quorum")
    wait_until(lambda: broker.consumers(queue) == 1, 30, "the queue is there again, and consumed from")
    broker.publish(queue, numbered(50, 50), exchange=exchange)
    journal.wait_ok(range(100))
    wait_empty(server, broker, name, queue)
    check_once(journal, range(100))


@pytest.mark.short
def test_an_operator_closes_all_connections(server, broker, journal, folder):
    gate = folder / "gate"
    deploy(server, maxInstances=2)
    queue = broker.declare("orders", "quorum")
    name = add(server, "amqp", url=broker.url, queue=queue, batch=10)
    wait_until(broker.connections, 60, "the broker lists the trigger's connection")
    broker.publish(queue, numbered(0, 200, hold=str(gate)))
    wait_until(lambda: lag(server, name)["binding"]["inFlight"] >= 2, 30, "handlers run")
    broker.close_connections()
    wait_until(lambda: broker.depth(queue) is not None and "closed" in server.log_text(), 30, "the connection is closed")
    gate.touch()
    broker.publish(queue, numbered(200, 200))
    begin = time.monotonic()
    check_nothing_lost(server, broker, journal, name, queue, 400)
    print(f"all done {time.monotonic() - begin:.1f} s later")
    assert max(map(len, journal.ok.values())) <= 2 and all(len(journal.ok[n]) == 1 for n in range(200, 400))


def test_rabbitmq_says_nothing(server, broker, journal):
    """A network that stalls: connected, but silent for longer than the heartbeat."""
    deploy(server, maxInstances=2)
    queue = broker.declare("orders", "quorum")
    name = add(server, "amqp", url=broker.url + "?heartbeat=2", queue=queue, batch=10)
    broker.publish(queue, numbered(0, 2000, ms=0.5))
    wait_until(lambda: journal.ok_count >= 50, 30, "it is under way")
    cpu, begin = cpu_seconds(server), time.monotonic()
    broker.mq.pause()
    try:
        wait_until(lambda: not source(server, name)["up"], 30, lambda: f"the silence is noticed: {lag(server, name)}")
        stays(lambda: server.status()["ready"], 3)
        took, spent = time.monotonic() - begin, cpu_seconds(server) - cpu
    finally:
        broker.mq.resume()
    back = time.monotonic()
    broker.publish(queue, numbered(2000, 100))
    wait_until(lambda: not journal.missing(range(2000, 2100)), 90, "consumption goes on")
    print(f"\ngoes on {time.monotonic() - back:.1f} s after the silence, {spent:.2f} s of CPU in {took:.0f} s")
    check_nothing_lost(server, broker, journal, name, queue, 2100)
    assert spent < took / 2, f"{spent:.1f} s of CPU in {took:.1f} s: a hot loop"


@pytest.mark.short
@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_the_server_ends_in_the_middle(serve, broker, journal, folder, end):
    gate = folder / "gate"
    server = serve({**ALONE, "grace": "60s"})
    deploy(server, maxInstances=2, retries=1, timeoutMs=300_000)
    queue = broker.declare("orders", "quorum")
    held = {"hold": str(gate)}  # the last ones, so that it cannot be done before it ends
    broker.publish(queue, [{"n": n, "ms": 3, **({"poison": True} if n % 100 == 50 else {}), **(held if n > COUNT - 100 else {})}
                           for n in range(COUNT)])
    name = add(server, "amqp", url=broker.url, queue=queue, batch=5)
    wait_until(lambda: journal.ok_count >= 200, 30, "it is under way")
    if end == "stop":
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in server.log_text(), 60, "it ends")
        gate.touch()
        assert server.wait_exit(90) == 0
    else:
        server.kill9()
        gate.touch()
    wait_until(lambda: broker.depth(queue), 60, "some are left")
    server.start()
    poison = range(50, COUNT, 100)
    check_nothing_lost(server, broker, journal, name, queue, COUNT, poison)
    letters = server.wait_letters(len(poison))
    assert sorted(json.loads(server.letter(letter["id"])["payload"])["n"] for letter in letters) == list(poison)
    if end == "stop":
        assert journal.repeated() == {}, "messages ran again because of a stop in order"


def test_a_letter_store_that_is_down_keeps_the_message(serve, real_backend, broker, journal):
    server = serve(ALONE, backend=real_backend)
    deploy(server, retries=0)
    queue = broker.declare("orders", "quorum")
    name = add(server, "amqp", url=broker.url, queue=queue, batch=5)
    broker.publish(queue, numbered(0, 20))
    journal.wait_ok(range(20))
    real_backend.db.kill9()
    try:
        broker.publish(queue, numbered(20, 20) + numbered(40, 1, poison=True) + numbered(41, 20))
        journal.wait_ok([*range(20, 40), *range(41, 61)])
        wait_until(lambda: journal.attempts_alone(40), 30, "it failed")
        server.kill9()
        wait_until(lambda: broker.depth(queue) >= 1, 20, "the message whose letter could not be written is on its queue")
    finally:
        real_backend.db.start()
    server.start()
    letter, = server.wait_letters(1, 60)
    assert json.loads(server.letter(letter["id"])["payload"])["n"] == 40
    wait_empty(server, broker, name, queue)
    assert journal.missing([n for n in range(61) if n != 40]) == []
