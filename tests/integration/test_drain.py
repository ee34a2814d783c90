# SPDX-License-Identifier: Apache-2.0
"""SIGTERM under load: no event fails or runs twice because of it, callers in flight get their answers, and the server ends within
the grace time. What it did not get to is there at the next start."""
import signal
import threading
import time

import pytest

from load import FUNCTION, Load, deploy, duplicates, unfinished, wait_all_ended, wait_idle
from pipeline import ALONE
from waiting import wait_until


def attempts_of(collector, ids):
    """The attempt numbers of the successes."""
    wanted = set(ids)
    return {words[1] for words in map(str.split, collector.lines) if words[0] in wanted}


def check_each_once(server, collector, ids):
    wait_all_ended(server, collector, ids)
    wait_idle(server)
    assert unfinished(server, collector, ids) == []
    assert collector.repeated(ids) == {}, "events ran twice because of the drain"
    assert attempts_of(collector, ids) == {"1"}, "events were charged an attempt because of the drain"
    assert server.letters(state="dead") == [] and server.letters(state="due") == []


GRACE_SECONDS = 90  # of servers that must end before it is over
SOON_SECONDS = 45


def drain(server, within=SOON_SECONDS):
    """SIGTERM; the exit code."""
    begin = time.monotonic()
    code = server.stop(within + 20)
    took = time.monotonic() - begin
    assert took <= within, f"it took {took:.1f} s:\n{server.log_text()[-3000:]}"
    return code


def held_words(collector, id):
    return [words for words in collector.about(id) if words[0] == "begin"]


class SyncCalls:
    """Calls from threads of their own; `answers` after join()."""

    def __init__(self, server, count, data):
        self.answers = []
        self._threads = [threading.Thread(target=self._call, args=(server, data), daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self, server, data):
        try:
            self.answers.append(server.invoke(FUNCTION, data)[0])
        except OSError as why:
            self.answers.append(repr(why))

    def join(self):
        for thread in self._threads:
            thread.join(60)
        return self.answers


def test_fast_handlers(serve, backend, collector):
    server = serve({"grace": f"{GRACE_SECONDS}s"}, backend=backend)
    deploy(server)
    with Load(server, 20000, make=lambda n: {"kind": "ok", "n": n, "ms": 0.5}) as load:
        wait_until(lambda: 300 <= len(collector.lines) <= len(load.accepted) - 1500, 60, "a load is under way")
        assert drain(server) == 0
    print(f"\ndrain, {backend.kind}: {len(collector.lines)} of {len(load.accepted)} handled before the end")
    assert collector.missing(load.accepted), "nothing was left for the next start: the test shows nothing"
    assert collector.repeated(load.accepted) == {}
    server.start()
    check_each_once(server, collector, load.accepted)


@pytest.mark.short
def test_slow_handlers_and_callers_in_flight(serve, backend, collector):
    server = serve({"grace": f"{GRACE_SECONDS}s"}, backend=backend)
    deploy(server, maxInstances=4)
    ids = server.send_async(FUNCTION, [{"kind": "hold", "times": 0, "hold_ms": 0, "ms": 1000} for _ in range(50)])
    calls = SyncCalls(server, 2, {"kind": "hold", "times": 0, "hold_ms": 0, "ms": 1000})
    wait_until(lambda: collector.count("begin") >= 2, 30, "handlers run")
    wait_until(lambda: server.function_status(FUNCTION)["unsettled"] >= 50 + 2 or collector.count("begin") >= 6, 30, "all are in")
    assert drain(server) == 0
    assert calls.join() == [200, 200]
    begun = {words[1] for words in map(str.split, collector.lines) if words[0] == "begin"}
    assert collector.missing(begun) == [], "what had begun was not finished"
    assert len(begun) < 50, "nothing was left for the next start: the test shows nothing"
    server.start()
    deploy(server, maxInstances=20)
    check_each_once(server, collector, ids)


@pytest.mark.short
def test_a_handler_longer_than_the_grace_time(serve, backend, collector, folder):
    gate = folder / "gate"
    server = serve({**ALONE, "grace": "1s"}, backend=backend)
    deploy(server, timeoutMs=600_000)
    held = server.send(FUNCTION, {"kind": "hold", "times": 0, "gate": str(gate)})
    wait_until(lambda: held_words(collector, held), 30, "it runs")
    assert drain(server) == 0
    assert collector.count(held) == 0
    gate.touch()
    server.start()
    collector.wait_for([held])
    assert [words[2] for words in held_words(collector, held)] == ["1", "1"], "it was charged for the end of the server"
    wait_idle(server)
    assert collector.count(held) == 1 and server.letters(state="dead") == []


@pytest.mark.short
def test_a_second_signal_ends_at_once(serve, backend, collector, folder):
    gate = folder / "gate"
    server = serve({**ALONE, "grace": f"{GRACE_SECONDS}s"}, backend=backend)
    deploy(server, timeoutMs=600_000)
    ids = server.send_async(FUNCTION, [{"kind": "hold", "times": 0, "gate": str(gate)}] + [{"kind": "ok", "ms": 5}] * 500)
    wait_until(lambda: held_words(collector, ids[0]) and len(collector.lines) > 20, 30, "handlers run")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in server.log_text(since_start=True), 60, "the drain has begun")
    assert drain(server) == 128 + signal.SIGTERM
    gate.touch()
    server.start()
    wait_all_ended(server, collector, ids)
    wait_idle(server)
    print(f"\nsecond signal, {backend.kind}: {duplicates(collector, ids)} duplicates of {len(ids)}")
    assert attempts_of(collector, ids) == {"1"}
