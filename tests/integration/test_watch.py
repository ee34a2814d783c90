# SPDX-License-Identifier: Apache-2.0
"""weir dlq watch on a terminal of its own (pyte draws what it writes), against a real server; against a stand-in for one where the
texts are hostile."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios

import pyte
import pytest

from fake_server import FakeServer, error
from server import BIN
from waiting import wait_until, wait_within

SECONDS = 60
ENTER, ESCAPE, TAB, CTRL_C, CTRL_L, UP = "\r", "\x1b", "\t", "\x03", "\x0c", "\x1b[A"
BROKEN = "def main_handler(event, context):\n    return event['total'] * 2\n"
MENDED = "def main_handler(event, context):\n    return event.get('total', 0) * 2\n"


class Screen(pyte.Screen):
    def back_tab(self, count=1):
        for _ in range(count or 1):
            self.cursor.x = max(0, self.cursor.x - 1) // 8 * 8

    def scroll(self, change_lines, count):
        x, y = self.cursor.x, self.cursor.y
        self.cursor.y = self.margins.top if self.margins else 0
        change_lines(count or 1)
        self.cursor.x, self.cursor.y = x, y

    def scroll_up(self, count=1):
        self.scroll(self.delete_lines, count)

    def scroll_down(self, count=1):
        self.scroll(self.insert_lines, count)


class Stream(pyte.ByteStream):
    """With the sequences of this kind of terminal that pyte lacks."""
    more = {"Z": "back_tab", "S": "scroll_up", "T": "scroll_down"}
    csi = {**pyte.ByteStream.csi, **more}
    events = pyte.ByteStream.events | set(more.values())


class Terminal:
    """`weir dlq watch` with a screen of rows x columns. `raw` is all that it wrote."""

    def __init__(self, url, *words, rows=24, columns=80, env=None):
        self.ours, self.theirs = pty.openpty()
        self.raw = b""
        self.screen = Screen(columns, rows)
        self.stream = Stream(self.screen)
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.theirs)
        given = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_") and name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [BIN, "dlq", "watch", "--server", url, *words], stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, close_fds=True,
            env={**given, "TERM": "screen-256color", "LC_ALL": "C.UTF-8", **(env or {})}, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, columns):
        """The kernel tells the processes of the terminal by SIGWINCH."""
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pump(self):
        while select.select([self.ours], [], [], 0)[0]:
            part = os.read(self.ours, 65536)
            self.raw += part
            self.stream.feed(part)

    def lines(self):
        self.pump()
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines())

    def until(self, holds, seconds=SECONDS, what="this screen"):
        """Waits until holds(lines): what is seen may be half of a frame."""
        wait_within(lambda: holds(self.lines()), seconds, lambda: f"{what}:\n{self.text()}")

    def see(self, *texts, seconds=SECONDS):
        self.until(lambda lines: all(text in "\n".join(lines) for text in texts), seconds, texts)

    def see_no(self, text):
        self.until(lambda lines: text not in "\n".join(lines), what=f"no {text!r}")

    def type(self, keys):
        os.write(self.ours, keys.encode())

    def answer(self, question, keys):
        self.see(question)
        self.type(keys)

    def wait_exit(self):
        wait_until(lambda: self.pump() or self.process.poll() is not None, SECONDS, self.text)
        self.pump()
        return self.process.returncode

    def is_restored(self):
        """The settings of the terminal are as before, and the screen that was there before is shown, with a cursor."""
        last = {name: self.raw.rfind(b"\x1b[?" + name) for name in (b"1049h", b"1049l", b"25h", b"25l")}
        return termios.tcgetattr(self.theirs) == self.before and last[b"1049l"] > last[b"1049h"] and last[b"25h"] > last[b"25l"]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def watch(request):
    made = []

    def start(url, *words, **more):
        made.append(Terminal(url, *words, **more))
        return made[-1]
    yield start
    for terminal in made:
        terminal.close()


@pytest.fixture
def server(serve):
    return serve({"sandbox": "none"})


def make_letters(server, count, name="orders", source=BROKEN):
    server.deploy(name, source, backoffMs=[10, 10, 10])
    server.send_async(name, [{"n": n} for n in range(count)])
    server.wait_letters(count, function=name)


def states(server):
    found = {}
    for state in ("dead", "replayed", "discarded"):
        count = len(server.http("GET", f"/v1/letters?state={state}&limit=1000")[2]["letters"])
        if count:
            found[state] = count
    return found


# ---- a real server ----------------------------------------------------------------------------------------------------------


def test_groups_letters_and_a_letter(server, watch):
    make_letters(server, 30)
    terminal = watch(server.url)
    terminal.see("1 group, 30 letters")
    terminal.until(lambda lines: lines[3].split()[:1] == ["30"] and all(text in lines[3] for text in ("orders", "█", "KeyError")))
    server.send_async("orders", [{"n": 100}])
    terminal.see("1 group, 31 letters")  # without a key
    terminal.type(ENTER)
    terminal.see("31 letters", "ID ")
    terminal.until(lambda lines: lines[3].split()[1:3] == ["orders:1", "4"] and "KeyError: 'total'" in lines[3])
    terminal.type(ENTER)
    terminal.see("state       dead", "attempt 1", "Traceback")
    terminal.type("G")
    terminal.see("Payload (", '"n": 100')
    terminal.type("g/died after\r")
    terminal.see("died after 4 attempts")
    terminal.type(ESCAPE + "q")
    terminal.see("31 letters", "ID ")
    terminal.type("q")
    terminal.see("1 group, 31 letters")
    terminal.type("?")
    terminal.see("PgUp PgDn")
    terminal.type("qq")
    assert terminal.wait_exit() == 0
    assert terminal.is_restored()


def test_try_then_replay(server, watch):
    make_letters(server, 12)
    server.deploy("orders", MENDED)
    terminal = watch(server.url)
    terminal.see("12 letters")
    terminal.type("t")
    terminal.answer("Try: 12 letters of group", "orders:2" + ENTER)
    terminal.answer("how many", "\x155" + ENTER)
    terminal.see("5 of 5 pass", "passes", "orders:2")
    assert states(server) == {"dead": 12}
    terminal.type("q")
    terminal.see("1 group")
    terminal.type("r")
    terminal.answer("Replay: 12 letters of group", "orders:2" + ENTER)
    terminal.answer("rate", "1000/s" + ENTER)
    terminal.answer("to orders:2 at 1000/s? [y/N]", "n")
    terminal.see("nothing was done")
    assert states(server) == {"dead": 12} and server.http("GET", "/v1/replays")[2]["replays"] == []
    terminal.type("r")
    terminal.answer("to FUNCTION", "orders:2" + ENTER)
    terminal.answer("rate", ENTER)
    terminal.answer("[y/N]", "y")
    row = ["1", "done", "[##########]", "12/12", "12", "0"]  # …, ok, failed
    terminal.until(lambda lines: lines[3].split()[:6] == row)
    assert states(server) == {"replayed": 12}
    terminal.type(TAB)
    terminal.see("no dead letters")


def test_a_replay_is_paused_resumed_and_cancelled(server, watch):
    make_letters(server, 400)
    terminal = watch(server.url)
    terminal.see("400 letters")
    terminal.type("r" + ENTER + "1/s" + ENTER)
    terminal.answer("[y/N]", "y")
    terminal.see("replay 1 began: 400 letters", "running", "1/s")
    terminal.type("p")
    terminal.answer("Pause replay 1? [y/N]", "y")
    terminal.see("replay 1 is paused", "1 paused")
    terminal.type("p")
    terminal.answer("Resume replay 1? [y/N]", "y")
    terminal.see("replay 1 is running", "1 running")
    terminal.type("c")
    terminal.answer("[y/N]", "y")
    terminal.see("replay 1 is cancelled")
    terminal.type("c")
    terminal.answer("[y/N]", "y")
    terminal.see("Cancel of replay 1: ")  # the server says why not


def test_name_mute_and_discard(server, watch):
    make_letters(server, 3)
    terminal = watch(server.url)
    terminal.see("3 letters")
    terminal.type("n")
    terminal.answer("name (", "no-total" + ENTER)
    terminal.answer("note (", "WEB-311" + ENTER)
    terminal.answer("[y/N]", "y")
    terminal.see("is called no-total", "[no-total]")
    terminal.type("m")
    terminal.answer("Mute group no-total? [y/N]", "y")
    terminal.see("no dead letters")
    terminal.type("M")
    terminal.see("(muted) [no-total]")
    terminal.type(ENTER)
    terminal.see("group no-total  3 letters")
    terminal.type("d")
    terminal.answer("why:", "test orders" + ENTER)
    terminal.answer(": test orders? [y/N]", "y")
    terminal.see("1 letter discarded", "group no-total  2 letters")
    terminal.type("w")
    terminal.answer("condition", "payload.n <" + ENTER)
    terminal.see("column")
    terminal.type("w 3" + ENTER)
    terminal.see("where: payload.n < 3", "2 letters")
    terminal.type("D" + ENTER)
    terminal.answer("all 2 letters of group no-total that the filter finds? [y/N]", "y")
    terminal.see("2 letters discarded", "nothing is found")
    assert states(server) == {"discarded": 3}


def test_edit_in_an_editor(server, watch, tmp_path):
    make_letters(server, 1)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nstty -a </dev/tty | grep -q ' echo ' || exit 1\nsed -i 's/\"n\": 0/\"n\": 0, \"total\": 1.10/' \"$1\"\n")
    editor.chmod(0o755)
    terminal = watch(server.url, env={"EDITOR": str(editor), "VISUAL": "", "TMPDIR": str(tmp_path)})
    terminal.see("1 letter")
    terminal.type(ENTER)
    terminal.see("group ")
    terminal.see("ID ", "orders:1")
    terminal.type(ENTER)
    terminal.see("attempt 1")
    terminal.type("e")
    terminal.answer("why", "WEB-311" + ENTER)
    terminal.answer("Enter goes back", ENTER)
    terminal.see("back from the editor", "attempt 1")
    wait_until(lambda: terminal.type("G") or '"total": 1.10' in terminal.text(), SECONDS, terminal.text)  # the text grows when it comes
    terminal.see("edited by", "WEB-311")
    terminal.type("qqq")
    assert terminal.wait_exit() == 0
    assert terminal.is_restored()


def test_a_server_that_dies_and_comes_back(server, watch):
    make_letters(server, 2)
    terminal = watch(server.url)
    terminal.see("2 letters")
    server.kill9()
    terminal.see("no answer from", "again in")
    terminal.see("KeyError")  # what was known stays
    terminal.type("j?")
    terminal.see("PgUp PgDn")  # keys work meanwhile
    terminal.type("q")
    server.options["listen"] = f"127.0.0.1:{server.port}"
    server.start()
    terminal.see_no("no answer from")
    terminal.see("2 letters")


def test_a_server_that_hangs_does_not_block_the_keys(server, watch):
    make_letters(server, 2)
    terminal = watch(server.url)
    terminal.see("2 letters")
    server.pause()
    terminal.type(CTRL_L)
    for keys, text in (("s", "last seen first"), ("s", "newest first"), ("s", "by function"), ("?", "PgUp PgDn")):  # each asks the server
        terminal.type(keys)
        terminal.see(text, seconds=8)  # an answer is waited for for 10
    terminal.type("qq")
    assert terminal.wait_exit() == 0
    server.resume()


def test_a_token_is_wanted(serve, watch):
    server = serve({"sandbox": "none", "token": "secret-token"})
    terminal = watch(server.url)
    terminal.see("--token")
    watch(server.url, "--token", "secret-token").see("no dead letters")


# ---- the terminal -----------------------------------------------------------------------------------------------------------


def test_another_size(server, watch):
    make_letters(server, 30)
    terminal = watch(server.url)
    terminal.see("30 letters")
    terminal.type(ENTER)
    terminal.see("? keys", "ID ", "orders:1")

    def fits(lines, rows, columns):
        listed = [line for line in lines if "orders:1" in line]
        whole = lines[0].startswith(" group") and lines[rows - 1].startswith("? keys") and len(listed) == min(30, rows - 5)
        return whole and (len(listed[0].split()[0]) == 36) == (columns >= 120)

    for rows, columns in ((40, 132), (10, 50), (4, 20), (24, 80)):
        terminal.resize(rows, columns)
        if rows < 8:
            terminal.see("too small")
        else:
            terminal.until(lambda lines: fits(lines, rows, columns))
    terminal.type("G")
    terminal.resize(12, 80)
    terminal.until(lambda lines: fits(lines, 12, 80))
    terminal.until(lambda lines: [terminal.screen.buffer[row][0].reverse for row in range(3, 10)] == [False] * 6 + [True])  # the last is chosen


@pytest.mark.parametrize("end, code", [("q", 0), (CTRL_C, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP),
                                       (signal.SIGABRT, -signal.SIGABRT), (signal.SIGSEGV, -signal.SIGSEGV)])
def test_the_terminal_is_restored(server, watch, end, code):
    terminal = watch(server.url)
    terminal.see("no dead letters")
    assert termios.tcgetattr(terminal.theirs) != terminal.before
    if isinstance(end, str):
        terminal.type(end)
    else:
        terminal.process.send_signal(end)
    assert terminal.wait_exit() == code
    assert terminal.is_restored()


def test_ctrl_c_in_a_question_does_nothing_else(server, watch):
    make_letters(server, 1)
    terminal = watch(server.url)
    terminal.see("1 letter")
    terminal.type("d" + ENTER)
    terminal.answer("[y/N]", CTRL_C)
    assert terminal.wait_exit() == -signal.SIGINT
    assert terminal.is_restored() and states(server) == {"dead": 1}


def test_no_terminal(server):
    done = subprocess.run([BIN, "dlq", "watch", "--server", server.url], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    assert done.returncode == 2 and b"terminal" in done.stderr and b"weir dlq groups --json" in done.stderr and not done.stdout


@pytest.mark.parametrize("kind", ["dumb", "no-such-terminal", ""])
def test_a_terminal_that_cannot(server, watch, kind):
    terminal = watch(server.url, env={"TERM": kind})
    assert terminal.wait_exit() == 2
    assert "has no full screen" in "".join(terminal.screen.display)
    assert termios.tcgetattr(terminal.theirs) == terminal.before


@pytest.mark.parametrize("env, colors", [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "vt220"}, False)])
def test_colors_only_where_they_are_wanted(server, watch, env, colors):
    make_letters(server, 1)
    terminal = watch(server.url, env=env)
    terminal.see("1 letter")
    assert (b"\x1b[33m" in terminal.raw) == colors


# ---- hostile texts ----------------------------------------------------------------------------------------------------------

GROUP = {"group": "00000000000000aa", "name": "", "note": "", "muted": False, "count": 7, "functions": ["orders"], "firstVersion": 1,
         "lastVersion": 2, "firstMs": 1760000000000, "lastMs": 1760000000000, "errorType": "", "title": "", "place": "", "spark": [1] * 24}
LETTER = {"id": "0192f3c4-0000-7000-8000-000000000001", "function": "orders", "version": 1, "state": "dead", "kind": "function", "attempts": 4,
          "errorType": "E", "group": GROUP["group"], "acceptedMs": 1760000000000, "diedMs": 1760000000000, "changedMs": 1760000000000,
          "dueMs": None, "source": {"kind": "http", "name": "", "at": ""}, "orderingKey": "", "originId": None, "replayId": None, "to": None,
          "payloadBytes": 9, "why": "", "edited": False}
HOSTILE = {
    "sequences": "\x1b[2J\x1b[1;1H\x1b]0;owned\x07\x1b[?1049l\x1bc\x9b31m\x0e\x08\x08\r\n\n\x7f",
    "wide": "日本語のエラー" * 20, "marks": "\u0301e" + "\u0301" * 500, "bidi": "\u202eabc\u2066def\u200f", "emoji": "👩\u200d💻🇩🇪\ufe0f" * 9,
    "tabs": "\t" * 50, "nothing": "\u0000\ufffe\U000e0001",
}


class Hostile(FakeServer):
    def __init__(self, text):
        self.bad = text
        super().__init__()
        self.http.RequestHandlerClass.do_PATCH = self.http.RequestHandlerClass.do_GET

    def usual(self, request):
        group = {**GROUP, "title": self.bad, "name": self.bad[:3], "functions": [self.bad]}
        letter = {**LETTER, "errorMessage": self.bad, "function": self.bad, "orderingKey": self.bad}
        return {
            "/v1/groups": lambda: (200, {"groups": [group, {**GROUP, "group": "00000000000000bb", "title": "the second"}], "letters": 14}),
            "/v1/letters": lambda: (200, {"letters": [letter, {**LETTER, "id": LETTER["id"][:-1] + "2", "errorMessage": "the second"}], "next": None}),
            "/v1/letters/" + LETTER["id"]: lambda: (200, {**letter, "history": [], "headers": [[self.bad, self.bad]], "payload": self.bad,
                                                          "edits": [], "replays": []}),
            "/v1/letters/try": lambda: (200, {"tried": 1, "passed": 0, "results": [{"id": LETTER["id"], "verdict": "other", "stack": self.bad,
                                                                                   "log": self.bad, "errorType": self.bad, "function": self.bad}]}),
            "/v1/letters/discard": lambda: (400, error("InvalidArgument", self.bad)),
        }.get(request["path"], lambda: (404, error("NotFound", "there is no such thing")))()


class WithReplays(FakeServer):
    replays = [{"replay": 2, "state": "cancelled", "total": 38423, "pending": 26704, "sent": 2316, "skipped": 9403, "ok": 305, "dead": 1, "reason": "", "to": ""},
               {"replay": 1, "state": "done", "total": 800, "pending": 0, "sent": 0, "failed": 800, "reason": "", "to": "orders:8"}]

    def usual(self, request):
        letters = {"letters": [LETTER], "next": None}
        return 200, {"/v1/groups": {"groups": [GROUP], "letters": 7}, "/v1/letters": letters, "/v1/replays": {"replays": self.replays}}[request["path"]]


def test_what_a_replay_did_not_send_is_not_counted_as_sent(watch):
    fake = WithReplays()
    try:
        terminal = watch(fake.url)
        terminal.see("1 group, 7 letters")
        terminal.type("\t")
        terminal.until(lambda lines: "[----------]  2316/38423" in lines[3] and lines[3].endswith("9403 skipped")
                       and "[----------]       0/800" in lines[4] and lines[4].endswith("800 not sent…"))
        terminal.type("q")
        terminal.see("1 group, 7 letters")
        terminal.type("r" + ENTER + "40" + ENTER)
        terminal.answer(" at 40/s? [y/N]", "n")
        terminal.type(ENTER)
        terminal.until(lambda lines: lines[23].endswith("q back"))
    finally:
        fake.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_do_not_break_the_screen(watch, name):
    fake = Hostile(HOSTILE[name])
    try:
        terminal = watch(fake.url)
        terminal.see("2 groups, 14 letters")
        terminal.until(lambda lines: lines[2].startswith("  COUNT 24H") and lines[23].startswith("? keys")
                       and lines[3].startswith("      7 █") and lines[4].startswith("      7 █") and lines[4].endswith("the second"))
        terminal.type(ENTER)
        terminal.until(lambda lines: lines[2].startswith("ID ") and lines[3].startswith("000000000001 ")
                       and lines[4].startswith("000000000002 orders:1") and lines[4].endswith("the second") and lines[23].startswith("? keys"))
        terminal.type(ENTER)
        terminal.see("state       dead")
        terminal.until(lambda lines: lines[2] == LETTER["id"] and lines[23].startswith("? keys"))
        terminal.type("G")
        terminal.see("Payload (9 B)")
        terminal.type("t" + ENTER)
        terminal.see("try of", "1 of 1 fail otherwise")
        terminal.until(lambda lines: lines[23].startswith("/ find"))
        terminal.type("qd" + ENTER + "y")
        terminal.see("Discard of letter")
        terminal.until(lambda lines: lines[23].startswith("? keys"))
        terminal.type("qqq")
        assert terminal.wait_exit() == 0
        assert terminal.is_restored()
        for bad in (b"\x1b]0;", b"\x1bc", b"\xc2\x9b", b"\x07", "\u202e".encode(), b"\x0e"):
            assert bad not in terminal.raw
    finally:
        fake.close()


def test_a_question_survives_hostile_typing(watch):
    fake = Hostile("x")
    try:
        terminal = watch(fake.url, rows=10, columns=40)
        terminal.see("2 groups")
        terminal.type("d" + "日" * 100 + UP + "\x01\x02" + "e\u0301" * 200 + "\x05\x7f" + ENTER)
        terminal.answer("[y/N]", "y")
        terminal.see("Discard of")
        sent = json.loads(fake.sent("POST", "/v1/letters/discard")[0]["body"])
        assert sent["why"].startswith("e\u0301") and len(sent["why"].encode()) < 500
    finally:
        fake.close()
