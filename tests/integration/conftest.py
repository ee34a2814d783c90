# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: folders, servers, backends.

    def test_it(serve, backend):        # runs twice: embedded, and RabbitMQ with PostgreSQL
        server = serve(backend=backend)

RabbitMQ, PostgreSQL and Kafka are started when the first test wants them and stopped after the last. Each test has a virtual
host and a database of its own in them, and topics (`topic`), so that tests never meet.
"""
import base64
import contextlib
import itertools
import os
import pathlib
import shutil
import sys
import tempfile
import urllib.request

import psycopg2
import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]
import services  # noqa: E402
from collector import Collector  # noqa: E402
from server import Server  # noqa: E402
from waiting import wait_until  # noqa: E402

_numbers = itertools.count(1)


def unique_name():
    return f"weir_{os.getpid()}_{next(_numbers)}"


def pytest_configure(config):
    config.addinivalue_line("markers", "short: runs under the sanitizers too")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of its servers' logs."""
    report = (yield).get_result()
    if report.failed:
        for server in getattr(item, "weir_servers", []):
            if server.log_path.exists():
                report.sections.append((f"log of {server.dir.name}", server.log_text()[-6000:]))


class ManagedRabbitMQ(services.RabbitMQ):
    """With its management API, which makes a virtual host in milliseconds."""

    def start(self):
        self.url, self.management = self._run("start", "--management").splitlines()[:2]
        return self.url

    def restart(self):
        super().restart()
        return self.start()  # it runs: this only reads both URLs again

    def wait_killable(self, vhost, queue):
        """RabbitMQ 3.10 loses a quorum queue that is not on its list yet when it is killed, see services/rabbitmq."""
        name = f"{vhost}_{queue}".encode()
        wait_until(lambda: any(name in path.read_bytes() for path in self.dir.glob("mnesia/*/quorum/*/names.dets")), 60,
                   f"{queue} is on RabbitMQ's list")

    def call(self, method, path, body=b"{}"):
        request = urllib.request.Request(self.management.rstrip("/") + path, method=method, data=body if method == "PUT" else None)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


class Backend:
    """Where a server of this test keeps things. `options` go to the server; `mq` and `db` are the services (or None)."""

    def __init__(self, kind, options, mq=None, db=None, vhost="", database=""):
        self.kind, self.options, self.mq, self.db, self.vhost, self.database = kind, options, mq, db, vhost, database

    @property
    def embedded(self):
        return self.mq is None

    @property
    def amqp_url(self):
        return self.options["queue"]

    @property
    def store_url(self):
        return self.options["store"]


@contextlib.contextmanager
def running(kind):
    """A server until the last test; in a folder of tests/run it stays for the next file, and may have been left in any state."""
    kept = os.environ.get("WEIR_TEST_SERVICES")
    if not kept:
        with kind() as service:
            yield service
        return
    service = kind(pathlib.Path(kept) / kind.script)
    service.resume()
    service.start()
    yield service


@pytest.fixture(scope="session")
def rabbitmq():
    with running(ManagedRabbitMQ) as mq:
        yield mq


@pytest.fixture(scope="session")
def postgres():
    with running(services.Postgres) as db:
        yield db


def execute(db, statement):
    connection = psycopg2.connect(db.url)
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def make_real_backend(mq, db):
    name = unique_name()
    mq.call("PUT", f"/api/vhosts/{name}")
    mq.call("PUT", f"/api/permissions/{name}/guest", b'{"configure":".*","write":".*","read":".*"}')
    execute(db, f"CREATE DATABASE {name}")
    return Backend("amqp+postgres", {"queue": mq.url + name, "store": db.url.rpartition("/")[0] + "/" + name}, mq, db, name, name)


def drop_real_backend(backend):
    """The services may be down by the test's doing: they are thrown away at the end anyway."""
    try:
        backend.mq.call("DELETE", f"/api/vhosts/{backend.vhost}")
        execute(backend.db, f"DROP DATABASE IF EXISTS {backend.database} WITH (FORCE)")
    except (OSError, psycopg2.Error):
        pass


@pytest.fixture
def real_backend(rabbitmq, postgres):
    made = make_real_backend(rabbitmq, postgres)
    yield made
    drop_real_backend(made)


@pytest.fixture
def database(postgres):
    """The URL of a PostgreSQL database of its own, for servers whose queues are embedded."""
    name = unique_name()
    execute(postgres, f"CREATE DATABASE {name}")
    yield postgres.url.rpartition("/")[0] + "/" + name
    try:
        execute(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    except psycopg2.Error:
        pass


@pytest.fixture(params=["embedded", "amqp+postgres"])
def backend(request):
    if request.param == "embedded":
        return Backend("embedded", {})
    return request.getfixturevalue("real_backend")


@pytest.fixture(scope="session")
def kafka_broker():
    from kafka import Kafka  # only tests that ask for it need the client library

    with running(Kafka) as broker:
        yield broker


@pytest.fixture
def kafka(kafka_broker):
    """The broker that all tests share, running, whatever the test before did to it."""
    kafka_broker.resume()
    kafka_broker.start()
    return kafka_broker


@pytest.fixture
def topic(kafka):
    """topic(partitions=1, **config) makes a topic that no other test has, and returns its name."""
    return lambda partitions=1, **config: kafka.create_topic(kafka.unique("topic"), partitions, **config)


@pytest.fixture
def folder():
    """A temporary folder that is gone after the test."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="weir-it-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def collector():
    with Collector() as made:
        yield made


@pytest.fixture
def serve(folder, collector, request):
    """serve(options, env=…, backend=…) starts a server whose functions can tell the collector. All are stopped after the test."""
    for name in {"backend", "database"} & set(request.fixturenames):  # so that it is taken down after the servers
        request.getfixturevalue(name)
    servers = request.node.weir_servers = []

    def make(options=None, env=None, backend=None, dir=None, start=True):
        given = {**(backend.options if backend else {}), **(options or {})}
        made = Server(dir or folder / f"server{len(servers)}", given, env, collector, start=False)
        servers.append(made)
        return made.start() if start else made

    yield make
    troubles = []
    for server in servers:
        try:
            server.close()
        except AssertionError as why:
            troubles.append(str(why))
    assert not troubles, "\n".join(troubles)
