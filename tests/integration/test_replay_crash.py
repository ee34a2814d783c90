# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server at every step of a replay, of the command that follows it, of one node of two; RabbitMQ and PostgreSQL away,
a full disk: in the end each letter ran, none is marked that did not, and none is left half way."""
import collections
import signal
import subprocess
import threading
import uuid

import pytest

from load import FUNCTION, bury, let_leases_run_out, mend, sql, wait_idle, wait_ready
from server import BIN
from waiting import wait_until

LETTERS = 50000
CREDIT = 500
ON_THEIR_WAY = 4 * 500  # letters that a replay has claimed at a time, see dlq/replays.h

# The moment of each kill: a fault point of the server, and how often it is passed before.
POINTS = [
    ("replay.claimed", 8),
    ("ingest.published", 700),   # between two letters of a batch
    ("replay.published", 8),
    ("store.ran", 30),           # claimed, marked or told, and not committed
    ("store.committed", 30),
    ("replay.marked", 8),
    ("replay.outcome", 8),       # written, and the event not acknowledged
    ("delivery.settled", 2000),
    ("replay.ended", 1),
]


class Runs:
    """What ran: for each letter's number the ids of the events that came."""

    def __init__(self, collector):
        self.of = collections.defaultdict(list)
        for line in collector.lines:
            n, id = line.split()
            self.of[int(n)].append(id)

    @property
    def again(self):
        return sum(len(ids) - 1 for ids in self.of.values())


def uuid_of(value):
    return str(uuid.UUID(bytes=bytes(value))) if value is not None else None


def check_all_ran(server, backend, collector, job, ids, most_again=0):
    """Every letter ran, as the event that its replay says; nothing is left on its way."""
    end = server.wait_replay(job, 120, outcomes=True)
    wait_idle(server)
    assert (end["state"], end["sent"], end["skipped"], end["failed"], end["pending"]) == ("done", len(ids), 0, 0, 0), end
    runs, number = Runs(collector), {id: n for n, id in enumerate(ids)}
    rows = [(seq, uuid_of(letter), state, uuid_of(event), outcome, uuid_of(marked)) for seq, letter, state, event, outcome, marked in sql(
        server, backend, "SELECT r.seq, r.letter_id, l.state, r.event_id, r.outcome, l.replay_id FROM replay_letters r"
                         f" JOIN letters l ON l.id = r.letter_id WHERE r.replay = {job} ORDER BY r.seq")]
    assert [row[0] for row in rows] == list(range(1, len(ids) + 1)) and sorted(row[1] for row in rows) == sorted(ids)
    assert {row[2] for row in rows} == {"replayed"} and {row[4] for row in rows} <= {"ok", "dead"}
    wrong = [row for row in rows if not set(runs.of[number[row[1]]]) == {row[3]} == {row[5]}]
    assert not wrong, f"{len(wrong)} letters did not run, or as another event: {wrong[:3]}"
    assert runs.again <= most_again, f"{runs.again} ran twice, more than can have been under way"
    print(f"\n{len(ids)} letters, {runs.again} ran again")
    return end


def follow(server, *words):
    """The command, that follows the replay it makes."""
    return subprocess.Popen([BIN, "dlq", "replay", "--function", FUNCTION, "--yes", *words], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**server.env, "WEIR_SERVER": server.url})


def start_by_cli(server, *words):
    """The replay's number and the command."""
    command = follow(server, *words)
    [job] = wait_until(lambda: server.http("GET", "/v1/replays")[2]["replays"], 60, "the replay is made")
    return job["replay"], command


def test_kill_at_each_step(serve, backend, collector):
    server = serve({"credit": CREDIT, "max-deliveries": 100}, backend=backend)
    ids = bury(server, LETTERS, lambda n: {"n": n, **({"again": True} if n % 1000 == 7 else {})})
    mend(server)
    job = None
    for point, times in POINTS:
        if server.alive:
            server.stop()
        server.env["WEIR_CRASH_AT"] = f"{point}:{times}"
        server.start()
        if job is None:
            try:
                job, command = start_by_cli(server)
            finally:
                command.send_signal(signal.SIGKILL)
                command.communicate()
        wait_until(lambda: not server.alive, 60, f"the server reaches {point}")
        assert server.process.wait() == -signal.SIGKILL, f"{point}: it ended otherwise:\n{server.log_text()[-3000:]}"
        let_leases_run_out(server, backend)
    del server.env["WEIR_CRASH_AT"]
    server.start()
    end = check_all_ran(server, backend, collector, job, ids, len(POINTS) * (ON_THEIR_WAY + CREDIT))
    assert (end["ok"], end["dead"]) == (LETTERS - LETTERS // 1000, LETTERS // 1000)
    assert len(server.letters(state="dead")) == LETTERS // 1000
