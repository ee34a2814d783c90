# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server at every step of a replay, of the command that follows it, of one node of two; RabbitMQ and PostgreSQL away,
a full disk: in the end each letter ran, none is marked that did not, and none is left half way."""
import collections
import signal
import subprocess
import uuid

import pytest

from load import DIES, FUNCTION, bury, let_leases_run_out, mend, sql, wait_idle, wait_ready
from server import BIN
from test_bad_input import SmallDisk
from timers import SLOW_MS
from waiting import stays, wait_until, wait_within

LETTERS = 50000
CREDIT = 500
ON_THEIR_WAY = 4 * 1000  # letters that a replay has claimed at a time, see dlq/replays.h

# The moment of each kill: a fault point of the server, and how often it is passed before.
POINTS = [
    ("replay.claimed", 4),
    ("ingest.published", 700),   # between two letters of a batch
    ("replay.published", 4),
    ("store.ran", 15),           # claimed, marked or told, and not committed
    ("store.committed", 15),
    ("replay.marked", 4),
    ("replay.outcome", 4),       # written, and the event not acknowledged
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


def rows_of(server, backend, job):
    """(place, letter, its state, event of the job's, outcome, event of the letter's); from the store itself, as there are many."""
    if backend:
        found = sql(server, backend, "SELECT r.seq, r.letter_id, l.state, r.event_id, r.outcome, l.replay_id FROM replay_letters r"
                                     f" JOIN letters l ON l.id = r.letter_id WHERE r.replay = {job} ORDER BY r.seq")
        return [(seq, uuid_of(letter), state, uuid_of(event), outcome, uuid_of(sent)) for seq, letter, state, event, outcome, sent in found]
    letters = {letter["id"]: letter for state in ("dead", "replaying", "replayed") for letter in server.letters(state=state)}
    return [(row["seq"], row["id"], letters[row["id"]]["state"], row["eventId"], row["outcome"], letters[row["id"]]["replayId"])
            for row in server.replay_letters(job)]


def check_all_ran(server, backend, collector, job, ids, most_again=0):
    """Every letter ran, as the event that its replay says; nothing is left on its way."""
    end = server.wait_replay(job, 240, outcomes=True)
    wait_idle(server)
    assert (end["state"], end["sent"], end["skipped"], end["failed"], end["pending"]) == ("done", len(ids), 0, 0, 0), end
    runs, number = Runs(collector), {id: n for n, id in enumerate(ids)}
    rows = rows_of(server, backend, job)
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


def test_kill_at_each_step(serve, backend, collector):
    server = serve({"credit": CREDIT, "max-deliveries": 100}, backend=backend)
    ids = bury(server, backend, LETTERS, lambda n: {"n": n, **({"again": True} if n % 1000 == 7 else {})})
    mend(server)
    job, command = 1, None
    server.stop()
    for point, times in POINTS:
        server.env["WEIR_CRASH_AT"] = f"{point}:{times}"
        server.start()
        command = command or follow(server)
        wait_until(lambda: not server.alive, 60, f"the server reaches {point}")
        assert server.process.wait() == -signal.SIGKILL, f"{point}: it ended otherwise:\n{server.log_text()[-3000:]}"
        if command.poll() is None:
            command.kill()
        let_leases_run_out(server, backend)
    command.communicate()
    del server.env["WEIR_CRASH_AT"]
    server.start()
    end = check_all_ran(server, backend, collector, job, ids, len(POINTS) * (ON_THEIR_WAY + CREDIT))
    assert (end["ok"], end["dead"]) == (LETTERS - LETTERS // 1000, LETTERS // 1000)
    assert len(server.letters(state="dead")) == LETTERS // 1000


def test_the_other_node_takes_a_replay_over(serve, real_backend, collector):
    """The one that runs it is killed; its lease lasts 15 s."""
    one = serve({"credit": CREDIT}, backend=real_backend)
    ids = bury(one, real_backend, 8000)
    mend(one)
    two = serve({"credit": CREDIT}, backend=real_backend)
    job = one.start_replay(function=FUNCTION, rate=500)["replay"]  # it takes 16 s
    assert one.replay_job(job)["node"] == two.replay_job(job)["node"] != ""
    wait_until(lambda: one.replay_job(job)["sent"] >= 1000, 60, "it is under way")
    owner = one.replay_job(job)["node"]
    one.kill9()
    wait_within(lambda: two.replay_job(job)["node"] != owner, 15 + SLOW_MS / 1000, "the other takes it over")
    check_all_ran(two, real_backend, collector, job, ids, ON_THEIR_WAY + CREDIT)


def test_two_operators_replay_the_same_letters(serve, real_backend, collector):
    one = serve({"credit": CREDIT}, backend=real_backend)
    ids = bury(one, real_backend, 2000)
    mend(one)
    two = serve({"credit": CREDIT}, backend=real_backend)
    commands = [follow(server) for server in (one, two)]
    said = [command.communicate(timeout=120) for command in commands]
    jobs = one.http("GET", "/v1/replays")[2]["replays"]
    wait_idle(one)
    assert sum(job["sent"] for job in jobs) == 2000 and all(job["sent"] + job["skipped"] == job["total"] for job in jobs), jobs
    runs = Runs(collector)
    assert set(runs.of) == set(range(2000)) and runs.again == 0
    assert {letter["id"] for letter in one.letters(state="replayed")} == set(ids)
    print([command.returncode for command in commands], said)
    assert len(jobs) == 2 or any("no dead letter" in text for pair in said for text in pair)


# ---- cancel, pause -------------------------------------------------------------------------------------------------------


def counts(server, backend):
    return dict(sql(server, backend, "SELECT state, count(*) FROM letters GROUP BY state"))


@pytest.mark.short
def test_cancel_keeps_every_letter(serve, backend, collector):
    server = serve({}, backend=backend)
    ids = bury(server, backend, 3000)
    mend(server)
    job = server.start_replay(function=FUNCTION, rate=300)["replay"]
    wait_until(lambda: server.replay_job(job)["sent"] >= 200, 30, "it is under way")
    assert server.http("POST", f"/v1/replays/{job}/cancel")[2]["state"] == "cancelled"
    wait_until(lambda: "replaying" not in counts(server, backend), 30, "none is on its way")
    wait_idle(server)
    found, end = counts(server, backend), server.replay_job(job)
    assert sum(found.values()) == len(ids) and 200 <= found["replayed"] < len(ids), found
    assert (end["sent"], end["pending"], end["ok"]) == (found["replayed"], found["dead"], found["replayed"])
    runs = Runs(collector)
    assert len(runs.of) == found["replayed"] and runs.again == 0
    assert server.http("POST", f"/v1/replays/{job}/cancel")[0] == 409 and server.http("POST", f"/v1/replays/{job}/resume")[0] == 409
    rest = server.replay(function=FUNCTION, outcomes=True)
    assert rest["sent"] == found["dead"]
    assert set(Runs(collector).of) == set(range(len(ids))) and Runs(collector).again == 0


@pytest.mark.short
def test_a_paused_replay_stays_paused_over_a_restart(serve, backend, collector):
    server = serve({}, backend=backend)
    ids = bury(server, backend, 1000)
    mend(server)
    job = server.start_replay(function=FUNCTION, rate=100)["replay"]  # it takes 10 s
    wait_until(lambda: server.replay_job(job)["sent"] >= 50, 30, "it is under way")
    assert server.http("POST", f"/v1/replays/{job}/pause")[2]["state"] == "paused"
    wait_until(lambda: "replaying" not in counts(server, backend), 30, "none is on its way")
    server.restart()
    paused = server.replay_job(job)
    assert (paused["state"], paused["endedMs"]) == ("paused", None) and 50 <= paused["sent"] < 1000
    stays(lambda: server.replay_job(job)["sent"] == paused["sent"], 2, "nothing is sent")
    assert server.http("POST", f"/v1/replays/{job}/resume")[2]["state"] == "running"
    check_all_ran(server, backend, collector, job, ids)


# ---- what it needs is away -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", ["mq", "db"])
def test_a_replay_outlives_what_it_needs(serve, real_backend, collector, away):
    service = getattr(real_backend, away)
    server = serve({"credit": CREDIT}, backend=real_backend)
    ids = bury(server, real_backend, 5000)
    real_backend.mq.wait_killable(real_backend.vhost, f"weir.fn.{FUNCTION}")
    mend(server)
    job = server.start_replay(function=FUNCTION, rate=1000)["replay"]
    wait_until(lambda: server.replay_job(job)["sent"] >= 1000, 30, "it is under way")
    service.kill9()
    stays(lambda: server.alive, 10, "the server is there")
    service.start()
    wait_ready(server, 60)
    wait_until(lambda: server.http("GET", f"/v1/replays/{job}")[0] == 200, 30, "the connection that reads is there again, too")
    check_all_ran(server, real_backend, collector, job, ids, ON_THEIR_WAY + CREDIT)


# ---- a full disk -------------------------------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_full_disk_harms_no_letter(folder, collector):
    """Edits and replays are refused or go on later; with room again all of it is done."""
    server = SmallDisk(folder / "server", {"sandbox": "none"}, collector=collector)
    try:
        server.deploy(FUNCTION, DIES, retries=0)
        ids = server.send_async(FUNCTION, [{"n": n, "filling": "x" * 1000} for n in range(100)])
        server.wait_letters(len(ids))
        mend(server)
        refused = None
        for n in range(200):
            status, _, refused = server.http("POST", "/v1/letters/edit", {
                "function": FUNCTION, "set": {"payload.more": "%d" % n * 10000}, "why": "to fill the disk"})
            if status != 200:
                break
        assert status == 507, (status, refused)
        status, _, answer = server.http("POST", "/v1/replays", {"function": FUNCTION})
        job = answer["replay"] if status == 201 else None
        assert status in (201, 507), (status, answer)
        assert server.http("GET", "/healthz")[0] == 200
        states = ("dead", "replaying", "replayed")
        wait_until(lambda: sum(len(server.letters(state=state)) for state in states) == len(ids), 90, "all letters are there")
        server.make_room()
        if job is None:
            job = wait_until(lambda: server.http("POST", "/v1/replays", {"function": FUNCTION})[2].get("replay"), 30, "it is made")
        check_all_ran(server, None, collector, job, ids)
        for id in ids[:3]:
            assert [edit["revision"] for edit in server.letter(id)["edits"]] == list(range(1, len(server.letter(id)["edits"]) + 1))
        assert server.stop() == 0
    finally:
        if server.alive:
            server.kill9()
