# SPDX-License-Identifier: Apache-2.0
"""Events that wait for an instance, and what may happen to them before their turn: a deploy, age, a caller that goes away, the end of
the server."""
import http.client
import json
import threading
import time

import pytest

from pipeline import ALONE
from waiting import wait_until

# {"s":…} waits so many seconds, {"hold":FILE} until there is that file.
HOLD = """
import os
import time
def main_handler(event, context):
    time.sleep(event.get("s", 0))
    while "hold" in event and not os.path.exists(event["hold"]):
        time.sleep(0.005)
    return event
"""


@pytest.fixture
def gate(folder):
    return folder / "gate"


def occupy(server, name, gate):
    """The only instance of the function is busy until the gate opens."""
    server.send(name, {"hold": str(gate)})
    wait_until(lambda: server.function_status(name).get("busy") == 1, 20, "its instance is busy")


def wait_handed_out(server, name, count):
    wait_until(lambda: server.function_status(name)["handedOut"] == count, 20, f"{count} events are at the workers")


class Callers:
    """Sync calls from threads of their own; `answers` are statuses, or what was raised."""

    def __init__(self, server, name, count, data):
        self.answers = []
        self._threads = [threading.Thread(target=self._call, args=(server, name, data)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self, server, name, data):
        try:
            self.answers.append(server.http("POST", f"/v1/functions/{name}/invocations", data)[0])
        except OSError as why:
            self.answers.append(why)

    def join(self):
        for thread in self._threads:
            thread.join(60)
        return self.answers


def call_and_leave(server, name, count):
    """So many sync calls wait for an instance when their callers close their connections."""
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(count)]
    before = server.function_status(name)["handedOut"]
    for connection in connections:
        connection.request("POST", f"/v1/functions/{name}/invocations", json.dumps({}))
    wait_handed_out(server, name, before + count)
    for connection in connections:
        connection.close()
    server.status()  # comes after the ends of the connections


def test_a_deploy_meets_events_that_are_too_old_for_it(serve, gate):
    server = serve(ALONE)
    server.deploy("aged", HOLD, maxInstances=1, timeoutMs=120_000)
    occupy(server, "aged", gate)
    ids = server.send_async("aged", [{}] * 3)
    sent = time.monotonic()
    wait_handed_out(server, "aged", 4)
    wait_until(lambda: time.monotonic() - sent > 1.2, 20, "they are older than the next version allows")
    assert server.deploy("aged", HOLD + "# second\n", maxInstances=1, maxAgeMs=1000) == 2
    gate.touch()
    letters = server.wait_letters(3, state="dead")
    assert sorted(letter["id"] for letter in letters) == sorted(ids)
    assert {letter["kind"] for letter in letters} == {"expired"}


def test_nobody_runs_a_call_whose_caller_went_away(serve, gate):
    server = serve(ALONE)
    server.deploy("left", HOLD, maxInstances=1, timeoutMs=120_000)
    occupy(server, "left", gate)
    call_and_leave(server, "left", 3)
    gate.touch()
    assert server.invoke("left", {})[0] == 200
    wait_until(lambda: server.function_status("left")["unsettled"] == 0, 20, "nothing is left to do")
    assert server.metric("weir_events_ok_total", "left") == 2, "the event that was in the way and the last call"


def test_a_deploy_meets_a_call_whose_caller_went_away(serve, gate):
    server = serve(ALONE)
    server.deploy("gone", HOLD, maxInstances=1, timeoutMs=120_000)
    occupy(server, "gone", gate)
    call_and_leave(server, "gone", 3)
    assert server.deploy("gone", HOLD + "# second\n", maxInstances=1) == 2
    gate.touch()
    assert server.invoke("gone", {})[0] == 200
    assert server.alive


def test_callers_that_still_wait_when_the_grace_is_over_are_told(serve):
    server = serve({"grace": "1s"})
    server.deploy("late", HOLD, maxInstances=1, timeoutMs=600_000)
    callers = Callers(server, "late", 3, {"s": 600})
    wait_handed_out(server, "late", 3)
    assert server.stop() == 0
    assert callers.join() == [503, 503, 503]


def test_the_end_does_not_wait_for_code_that_hangs_while_it_is_checked(serve):
    server = serve({"grace": "1s"})
    answers = []

    def deploy():
        try:
            answers.append(server.try_deploy("stuck", "import threading\nthreading.Event().wait(60)\n" + HOLD)[0])
        except OSError as why:
            answers.append(why)

    thread = threading.Thread(target=deploy)
    thread.start()
    wait_until(lambda: server.children(), 20, "an instance loads the code")
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 30  # loading has a minute
    thread.join(60)
    assert answers


def test_a_busy_function_gives_a_place_up_for_one_that_has_none(serve):
    server = serve({"max-instances": 2})
    server.deploy("greedy", HOLD, maxInstances=2)
    server.deploy("modest", HOLD, maxInstances=2)
    server.send_async("greedy", [{"s": 0.05}] * 4000)
    wait_until(lambda: server.function_status("greedy").get("busy") == 2, 20, "it has all places")
    assert server.invoke("modest", {"s": 0})[0] == 200
    assert server.function_status("greedy")["waiting"] > 100  # 100 s of work: it still had plenty
