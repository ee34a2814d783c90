# SPDX-License-Identifier: Apache-2.0
"""Events that wait for an instance, and what may happen to them before their turn: a deploy, age, a caller that goes away, the end of
the server."""
import threading
import time

from waiting import wait_until

HOLD = "import threading\ndef main_handler(event, context):\n    threading.Event().wait(event['s'])\n    return event\n"


def occupy(server, name, seconds):
    """The only instance of the function is busy from here on."""
    server.send(name, {"s": seconds})
    wait_until(lambda: server.function_status(name).get("busy") == 1, 20, "its instance is busy")


def wait_handed_out(server, name, count):
    wait_until(lambda: server.function_status(name)["handedOut"] == count, 20, f"{count} events are at the workers")


class Callers:
    """Sync calls from threads of their own; `answers` are statuses, or what was raised."""

    def __init__(self, server, name, count, data, seconds=60):
        self.answers = []
        self._threads = [threading.Thread(target=self._call, args=(server, name, data, seconds)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self, server, name, data, seconds):
        try:
            path = f"/v1/functions/{name}/invocations"
            self.answers.append(server.http("POST", path, data, seconds=seconds)[0])
        except OSError as why:
            self.answers.append(why)

    def join(self):
        for thread in self._threads:
            thread.join(60)
        return self.answers


def test_a_deploy_meets_events_that_are_too_old_for_it(serve):
    server = serve({})
    server.deploy("aged", HOLD, maxInstances=1)
    occupy(server, "aged", 5)
    ids = server.send_async("aged", [{"s": 0}] * 3)
    sent = time.monotonic()
    wait_handed_out(server, "aged", 4)
    wait_until(lambda: time.monotonic() - sent > 1.2, 20, "they are older than the next version allows")
    assert server.deploy("aged", HOLD + "# second\n", maxInstances=1, maxAgeMs=1000) == 2
    letters = server.wait_letters(3, state="dead")
    assert sorted(letter["id"] for letter in letters) == sorted(ids)
    assert {letter["kind"] for letter in letters} == {"expired"}


def test_nobody_runs_a_call_whose_caller_went_away(serve):
    server = serve({})
    server.deploy("left", HOLD, maxInstances=1)
    occupy(server, "left", 3)
    callers = Callers(server, "left", 3, {"s": 0}, seconds=0.5)
    assert all(isinstance(answer, TimeoutError) for answer in callers.join())
    assert server.invoke("left", {"s": 0})[0] == 200
    assert server.metric("weir_events_ok_total", "left") == 2, "the event that was in the way and the last call"


def test_a_deploy_meets_a_call_whose_caller_went_away(serve):
    server = serve({})
    server.deploy("gone", HOLD, maxInstances=1)
    occupy(server, "gone", 3)
    callers = Callers(server, "gone", 3, {"s": 0}, seconds=0.5)
    assert all(isinstance(answer, TimeoutError) for answer in callers.join())
    assert server.deploy("gone", HOLD + "# second\n", maxInstances=1) == 2
    assert server.invoke("gone", {"s": 0})[0] == 200
    assert server.alive


def test_callers_that_still_wait_when_the_grace_is_over_are_told(serve):
    server = serve({"grace": "1s"})
    server.deploy("late", HOLD, maxInstances=1)
    callers = Callers(server, "late", 3, {"s": 30})
    wait_handed_out(server, "late", 3)
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 5
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
    assert time.monotonic() - begin < 10
    thread.join(60)
    assert answers


def test_a_busy_function_gives_a_place_up_for_one_that_has_none(serve):
    server = serve({"max-instances": 2})
    server.deploy("greedy", HOLD, maxInstances=2)
    server.deploy("modest", HOLD, maxInstances=2)
    server.send_async("greedy", [{"s": 0.05}] * 400)
    wait_until(lambda: server.function_status("greedy").get("busy") == 2, 20, "it has all places")
    assert server.invoke("modest", {"s": 0})[0] == 200
    assert server.function_status("greedy")["waiting"] > 100  # 10 s of work: it still had plenty
