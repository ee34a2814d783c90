# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL or RabbitMQ away for 20 s under load: nothing that was accepted is lost, nothing is acknowledged before its letter is
kept, what needs neither goes on, and the log says it about once in 10 s."""
import collections
import contextlib
import json
import re
import time

import pytest

from load import FUNCTION, Load, deploy, duplicates, unfinished, wait_all_ended, wait_idle, wait_ready
from waiting import stays, wait_until

OUTAGE_SECONDS = 20
LOG_INTERVAL_SECONDS = 10


@pytest.fixture
def loaded(serve, real_backend, collector):
    """loaded(options) is a server with a function and a load that is under way."""
    with contextlib.ExitStack() as stack:
        def start(options=None, **load_options):
            server = serve(options, backend=real_backend)
            deploy(server, maxInstances=2)
            load = stack.enter_context(Load(server, 10 ** 9, **{"threads": 1, "batch": 20, "pause": 0.1, **load_options}))
            stack.callback(load.stop)
            wait_until(lambda: len(load.accepted) >= 200, 60, "a load is under way")
            real_backend.mq.wait_killable(real_backend.vhost, f"weir.fn.{FUNCTION}")
            wait_until(lambda: server.letters(state="dead"), 30, "the first dead letter")
            return server, load
        yield start


def failed_of(collector):
    return {words[1] for words in map(str.split, collector.lines) if words[0] == "failed"}


def held_by_broker(backend):
    """(ready, unacknowledged) of the function's queue, as the broker says it, some seconds late."""
    queue = json.loads(backend.mq.call("GET", f"/api/queues/{backend.vhost}/weir.fn.{FUNCTION}"))
    return queue.get("messages_ready", 0), queue.get("messages_unacknowledged", 0)


def sync_calls_work(server):
    """While nothing comes back: one that waited for it would wait in vain."""
    return server.invoke(FUNCTION, {"kind": "ok"})[0] == 200


def check_log(text, seconds):
    """Each trouble is said at its start and then once an interval; no module says more than its few troubles."""
    lines = [line for line in text.splitlines() if re.match(r"\S+ (warn|error) ", line)]
    said = collections.Counter(re.sub(r"^\S+ ", "", line).split(" error=")[0].split(" repeated=")[0] for line in lines)
    print("\n" + "\n".join(f"  {count} × {what}" for what, count in said.items()))
    assert said, "the outage is not in the log"
    most = seconds // LOG_INTERVAL_SECONDS + 2
    assert max(said.values()) <= most, f"said more than {most} times:\n" + "\n".join(lines)
    assert len(lines) <= 5 * most, "\n".join(lines)


def end_well(server, load, collector, name):
    load.stop()
    wait_ready(server, 60)
    wait_all_ended(server, collector, load.accepted, 90)
    wait_idle(server, 90)
    assert unfinished(server, collector, load.accepted) == []
    assert {letter["attempts"] for letter in server.letters(state="dead")} == {4}
    print(f"\n{name}: {len(load.accepted)} accepted, {duplicates(collector, load.accepted)} duplicates, "
          f"{len(load.refusals)} refused requests")


def test_postgres_away(loaded, real_backend, collector):
    server, load = loaded()
    log_at = len(server.log_text())
    before, failed_before, accepted_before = len(collector.lines), failed_of(collector), len(load.accepted)
    real_backend.db.kill9()
    begin = time.monotonic()
    wait_until(lambda: len(failed_of(collector) - failed_before) >= 20, 60, "events fail meanwhile")
    new_failures = len(failed_of(collector) - failed_before)
    wait_until(lambda: sum(held_by_broker(real_backend)) >= new_failures, 60,
               lambda: f"RabbitMQ still has the {new_failures} events whose letters cannot be kept: {held_by_broker(real_backend)}")
    stays(lambda: sync_calls_work(server), max(0, begin + OUTAGE_SECONDS - time.monotonic()), "sync calls are answered")
    wait_until(lambda: len(load.accepted) > accepted_before + 1000, 60, "async events are accepted, which need no store")
    wait_until(lambda: len(collector.lines) > before + 1000, 60, "healthy events are run, which need no store")
    real_backend.db.start()
    away = time.monotonic() - begin
    wait_ready(server)
    text = server.log_text()[log_at:]
    check_log(text, time.monotonic() - begin)
    end_well(server, load, collector, f"PostgreSQL away for {away:.0f} s")


def test_kill_while_postgres_is_away(loaded, real_backend, collector):
    server, load = loaded()
    failed_before = failed_of(collector)
    real_backend.db.kill9()
    wait_until(lambda: len(failed_of(collector) - failed_before) >= 50, 60, "events fail meanwhile")
    failed = failed_of(collector) - failed_before
    server.kill9()
    load.stop()
    real_backend.db.start()
    server.start()
    wait_until(lambda: all(len([w for w in collector.about(id) if w[0] in ("failed", id)]) > 1 for id in failed), 60,
               "the events whose letters could not be kept run again")
    end_well(server, load, collector, "server killed while PostgreSQL is away")


def test_postgres_silent(loaded, real_backend, collector):
    """Connected, but it answers nothing."""
    server, load = loaded()
    before = len(collector.lines)
    real_backend.db.pause()
    try:
        wait_until(lambda: len(collector.lines) > before + 500, 30, "healthy events run")
        stays(lambda: sync_calls_work(server), 3, "sync calls are answered")
    finally:
        real_backend.db.resume()
    end_well(server, load, collector, "PostgreSQL silent")


def probe(server):
    """One async call: its status and Retry-After."""
    status, headers, _ = server.http("POST", f"/v1/functions/{FUNCTION}/invocations?invokeType=Event", b'{"kind":"ok"}')
    return status, headers.get("retry-after")


def test_rabbitmq_away(loaded, real_backend, collector):
    server, load = loaded()
    log_at = len(server.log_text())
    real_backend.mq.kill9()
    begin = time.monotonic()
    wait_until(lambda: probe(server)[0] == 503, 60, "async callers are refused")
    status, retry_after = probe(server)
    assert status == 503 and int(retry_after) >= 1
    assert server.http("GET", "/readyz")[0] == 503
    stays(lambda: sync_calls_work(server) and probe(server)[0] == 503, max(0, begin + OUTAGE_SECONDS - time.monotonic()),
          "sync calls are answered, and async ones refused")
    real_backend.mq.start()
    back = time.monotonic()
    handled = len(collector.lines)
    wait_until(lambda: len(collector.lines) >= handled + 100, 60, "consumption resumes")
    print(f"\nhandled again {time.monotonic() - back:.1f} s after RabbitMQ could be logged in to")
    wait_ready(server)
    text = server.log_text()[log_at:]
    check_log(text, time.monotonic() - begin)
    end_well(server, load, collector, f"RabbitMQ away for {back - begin:.0f} s")


def test_rabbitmq_silent(loaded, real_backend, collector):
    """Connected, but silent for longer than the heartbeat."""
    server, load = loaded({"queue": real_backend.amqp_url + "?heartbeat=2"})
    real_backend.mq.pause()
    try:
        wait_until(lambda: not server.status()["queue"]["up"], 60, "the server notices that RabbitMQ says nothing")
        assert probe(server)[0] == 503
        stays(lambda: sync_calls_work(server), 4, "sync calls are answered")
    finally:
        real_backend.mq.resume()
    begin, handled = time.monotonic(), len(collector.lines)
    wait_until(lambda: len(collector.lines) >= handled + 100, 60, "consumption resumes")
    print(f"\nhandled again {time.monotonic() - begin:.1f} s after RabbitMQ woke up")
    end_well(server, load, collector, "RabbitMQ silent")
