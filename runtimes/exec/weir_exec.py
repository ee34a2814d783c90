# SPDX-License-Identifier: Apache-2.0
"""Runs an executable once for each event: payload on stdin, result on stdout, log on stderr (schema/frames.md).

The executable is started with posix_spawn (no copy of this process), gets its payload as a file without a name (so it need
not be fed while it writes), and is awaited with a pidfd. When it has exited, what its pipes hold is taken and they are
closed: something it left behind in the background cannot hold up the next event.
"""
import codecs
import os
import select
from time import monotonic

import weir_json
from weir_errors import Refused, describe
from weir_frames import (ERROR, HEADER_BYTES, INIT, INVOKE, PING, PONG, READY, RESULT, RESULT_MAX, STOP, connect, frame,
                         limit_memory, split_invoke)
from weir_logs import LogBuffer

STACK_BYTES = 4 * 1024
READ_BYTES = 64 * 1024
DRAIN_BYTES = 1024 * 1024  # the most that a pipe can hold
SLACK_MB = 32              # for this process, which holds a result while it grows
SIGKILL, SIGPIPE, SIGXFSZ = 9, 13, 25


def main():
    conn = connect()
    log = LogBuffer(conn)
    log.ticking = True  # it is flushed after each read; no thread needed
    kind, _, body = conn.take()
    if kind == STOP:
        os._exit(0)
    if kind != INIT:
        conn.broken("type %d before INIT" % kind)
    function = _init(conn, body)
    while True:
        log.seq = 0
        kind, seq, length = conn.header()
        if kind == INVOKE:
            _invoke(conn, log, function, seq, length)
        else:
            _control(conn)


def _init(conn, body):
    start = monotonic()
    try:
        init = weir_json.loads(body.decode())
        function = Function(init)
        limit_memory(init.get("memory_mb"), SLACK_MB)
    except Exception as e:
        conn.send(frame(ERROR, 0, describe(e)))
        os._exit(1)
    ready = {"runtime": "exec", "load_ms": round((monotonic() - start) * 1000, 1)}
    conn.send(frame(READY, 0, weir_json.dumps(ready)))
    return function


def _control(conn):
    kind, seq, body = conn.take()
    if kind == PING:
        conn.send(frame(PONG, seq, body))
    elif kind == STOP:
        os._exit(0)
    else:
        conn.broken("a frame of type %d" % kind)


def _invoke(conn, log, function, seq, length):
    meta = conn.pos + HEADER_BYTES + 2
    payload = split_invoke(conn, length)
    end = conn.pos = conn.pos + HEADER_BYTES + length
    log.seq = seq
    fatal = False
    try:
        context = weir_json.loads(conn.buf[meta:payload].decode())
        run = Run(conn, log, function.start(context, memoryview(conn.buf)[payload:end]))
        kind, body = RESULT, run.finish()
    except Failed as e:
        kind, body = ERROR, weir_json.dumps({"type": e.kind, "message": e.message, "stack": e.stack})
    except Exception as e:
        fatal = isinstance(e, MemoryError)
        kind, body = ERROR, describe(e)
    conn.send(log.finish() + frame(kind, seq, body))
    if fatal:
        os._exit(1)


class Failed(Exception):
    def __init__(self, kind, message, stack=""):
        self.kind, self.message, self.stack = kind, message, stack


class Function:
    """The executable and what all its runs have in common."""

    def __init__(self, init):
        env = init.get("env") or {}
        os.environ.update(env)
        os.chdir(init["code_dir"])
        self.path = os.path.abspath(init["handler"])
        self.argv = _argv(init["handler"], self.path)
        self.env = dict(os.environ)
        self.env["WEIR_FUNCTION"] = str(init.get("function", ""))
        self.env["WEIR_VERSION"] = str(init.get("version", ""))

    def start(self, context, payload):
        """Returns (pid, stdout, stderr)."""
        env = self.env.copy()
        env["WEIR_REQUEST_ID"] = str(context.get("request_id", ""))
        env["WEIR_ATTEMPT"] = str(context.get("attempt", 1))
        env["WEIR_DEADLINE_MS"] = str(context.get("deadline_ms", 0))
        if context.get("dry_run"):
            env["WEIR_DRY_RUN"] = "1"
        given, kept = [_payload_file(payload)], []
        try:
            for _ in ("stdout", "stderr"):
                ours, theirs = os.pipe2(os.O_CLOEXEC)
                kept.append(ours)
                given.append(theirs)
            pid = os.posix_spawn(self.argv[0], self.argv, env, setsigdef=(SIGPIPE, SIGXFSZ),
                                 file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(given)])
        except OSError as e:
            _close(kept)
            raise Failed("CannotStart", "%s: %s" % (self.argv[0], e.strerror))
        finally:
            _close(given)
        return pid, kept[0], kept[1]


def _close(fds):
    for fd in fds:
        os.close(fd)


def _payload_file(payload):
    fd = os.memfd_create("payload", os.MFD_CLOEXEC)
    while payload:
        payload = payload[os.write(fd, payload):]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _argv(handler, path):
    """Checks at INIT what would otherwise fail at every event. A text without "#!" is for /bin/sh, as in a shell."""
    if not os.path.isfile(path):
        files = sorted(os.listdir("."))[:20]
        raise Refused("HandlerNotFound", "the code has no file %s (its files: %s)" % (handler, ", ".join(files)))
    if not os.access(path, os.X_OK):
        raise Refused("NotExecutable", "%s is not executable (chmod +x %s)" % (handler, handler))
    with open(path, "rb") as f:
        first = f.readline(512)
    if first[:4] == b"\x7fELF":
        return [path]
    if first[:2] != b"#!":
        return ["/bin/sh", path]
    words = first[2:].rstrip(b"\n").decode("utf-8", "replace").strip(" \t").split(" ")
    if not os.path.exists(words[0]):
        raise Refused("InterpreterNotFound", "%s asks for the interpreter %s, which is not here%s" % (
            handler, ascii(words[0]), " (the file has Windows line ends)" if first.endswith(b"\r\n") else ""))
    return [path]


class Run:
    """One run of the executable, from its start to its exit."""

    def __init__(self, conn, log, started):
        self.conn, self.log = conn, log
        self.pid, self.out, self.err = started
        self.result, self.result_bytes = [], 0
        self.stack = b""
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def finish(self):
        """Returns the result or raises Failed."""
        pidfd = os.pidfd_open(self.pid)
        try:
            self._follow(pidfd)
            status = self._reap()
            for fd, take in ((self.out, self._take_out), (self.err, self._take_err)):
                self._drain(fd, take)
        except BaseException:
            self._kill()
            raise
        finally:
            _close((pidfd, self.out, self.err))
        self._take_err(b"", last=True)
        return self._outcome(status)

    def _follow(self, pidfd):
        poll = select.poll()
        takers = {self.out: self._take_out, self.err: self._take_err}
        for fd in takers:
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        poll.register(self.conn.fd, 0)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self.conn.fd in ready:  # hung up: the server is gone
                self._kill()
                os._exit(0)
            if pidfd in ready:
                return
            for fd in ready:
                if not self._read(fd, takers[fd]):
                    poll.unregister(fd)
            self.log.flush()

    def _read(self, fd, take):
        """How many bytes came; 0 at the end, -1 when there are none now."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return -1
        if data:
            take(data)
        return len(data)

    def _drain(self, fd, take):
        left = DRAIN_BYTES
        while left > 0:
            got = self._read(fd, take)
            if got <= 0:
                return
            left -= got

    def _take_out(self, data):
        self.result_bytes += len(data)
        if self.result_bytes > RESULT_MAX:
            raise Failed("ResultTooLarge", "more than %d bytes on stdout; it was killed" % RESULT_MAX)
        self.result.append(data)

    def _take_err(self, data, last=False):
        text = self.decode(data, last).encode()
        if text:
            self.log.add(text)
            self.stack = (self.stack + text)[-STACK_BYTES:]

    def _kill(self):
        if self.pid:
            os.kill(self.pid, SIGKILL)
            self._reap()

    def _reap(self):
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _outcome(self, status):
        if status == 0:
            return b"".join(self.result)
        stack = self.stack.decode("utf-8", "ignore")
        if status < 0:
            from signal import Signals
            known = [s.name for s in Signals if s == -status]
            raise Failed("Signal", "killed by %s" % (known[0] if known else "signal %d" % -status), stack)
        raise Failed("ExitStatus", "exit status %d" % status, stack)
