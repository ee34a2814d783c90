# SPDX-License-Identifier: Apache-2.0
"""A deploy replays the dead letters of its function once, whichever servers die or stall between the deploy and its replay."""
import contextlib
import http.client
import signal
import threading

import pytest

from load import FUNCTION, bury, let_leases_run_out, mend, wait_idle
from waiting import stays, wait_until

LETTERS = 30
POINTS = ["policy.deployed", "policy.replayed"]  # the version is current; the replay is in the store, and the policy does not know


def replays(server):
    return server.http("GET", "/v1/replays")[2]["replays"]


def replay_on_deploy(server, how="rate:2000/s"):
    done = server.cli("dlq", "policy", FUNCTION, f"--auto-replay-on-deploy={how}")
    assert done.returncode == 0, done.stderr


def restart(server, **env):
    server.stop()
    server.env.update(env)
    server.start()


def deploy_to_the_doomed(server):
    """Whether its answer comes before its end is open."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        mend(server)


def wait_killed(server):
    wait_until(lambda: not server.alive, 60, "the server reaches the point")
    assert server.process.wait() == -signal.SIGKILL, server.log_text()[-3000:]
    del server.env["WEIR_CRASH_AT"]


def check_one_replay(server, collector):
    [found] = wait_until(lambda: replays(server), 30, "the deploy has its replay")
    job = server.wait_replay(found["replay"], 60, outcomes=True)
    assert (job["automatic"], job["to"]) == (True, f"{FUNCTION}:2") and job["total"] == job["sent"] == job["ok"] == LETTERS, job
    wait_idle(server)
    assert {int(n): count for n, count in collector.counts().items()} == {n: 1 for n in range(LETTERS)}
    stays(lambda: len(replays(server)) == 1, 1, "there is one replay")


@pytest.mark.parametrize("point", POINTS)
def test_the_server_is_killed_after_a_deploy(serve, backend, collector, point):
    server = serve(backend=backend)
    bury(server, backend, LETTERS)
    replay_on_deploy(server)
    restart(server, WEIR_CRASH_AT=point)
    deploy_to_the_doomed(server)
    wait_killed(server)
    let_leases_run_out(server, backend)
    server.start()
    check_one_replay(server, collector)
    server.set_current(FUNCTION, 1)
    server.set_current(FUNCTION, 2)
    server.restart()
    stays(lambda: len(replays(server)) == 1, 1, "it was one deploy")


@pytest.mark.parametrize("point", POINTS)
def test_the_other_node_lives(serve, real_backend, collector, point):
    one, two = [serve(backend=real_backend) for _ in range(2)]
    bury(one, real_backend, LETTERS)
    replay_on_deploy(one)
    restart(one, WEIR_CRASH_AT=point)
    two.pause()  # so that the first one comes first
    deploy_to_the_doomed(one)
    wait_killed(one)
    two.resume()
    check_one_replay(two, collector)


def test_both_nodes_are_killed_after_a_deploy(serve, real_backend, collector):
    nodes = one, two = [serve(backend=real_backend) for _ in range(2)]
    bury(one, real_backend, LETTERS)
    replay_on_deploy(one)
    for node in nodes:
        restart(node, WEIR_CRASH_AT="policy.deployed")
    deploy_to_the_doomed(one)
    for node in nodes:
        wait_killed(node)
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_listening()
    check_one_replay(two, collector)
    assert len(replays(one)) == 1


def test_a_node_that_stalled_comes_too_late(serve, real_backend):
    """It knows of the deploy, and that there is no replay, while the other one makes it."""
    one, two = [serve(backend=real_backend) for _ in range(2)]
    bury(one, real_backend, LETTERS)
    replay_on_deploy(one, "rate:6/m")  # so there are letters for another one, too
    restart(one, WEIR_STALL_AT="policy.deployed")
    deploy = threading.Thread(target=mend, args=(one,))
    deploy.start()
    wait_until(lambda: one.is_stopped, 30, "the first one stalls")
    wait_until(lambda: replays(two), 30, "the second one makes the replay")
    one.resume()
    deploy.join(60)
    wait_until(lambda: one.status()["ready"], 30, "the first one goes on")
    stays(lambda: len(replays(one)) == 1, 3, "there is one replay")
    assert len(two.letters()) > LETTERS / 2
