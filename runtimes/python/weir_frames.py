# SPDX-License-Identifier: Apache-2.0
"""The frames of schema/frames.md on the inherited socket, for every runtime that is driven from Python.

Owns the socket, its receive buffer and the lock that keeps frames whole when threads write. Knows nothing of functions or
JSON. Imports only what the interpreter has loaded or built in: each further import would be paid at every start.
"""
import os
import posix
import resource
from _struct import Struct
from _thread import RLock

VERSION = 1
INIT, READY, INVOKE, RESULT, ERROR, LOG, PING, PONG, STOP = range(1, 10)
BODY_MAX = 8 * 1024 * 1024 + 64 * 1024
RESULT_MAX = 6 * 1024 * 1024
CHUNK = 256 * 1024
HEADER_BYTES = 12

_header = Struct("<IBBHI")
pack_header = _header.pack
unpack_header = _header.unpack_from


def frame(kind, seq, body=b""):
    return pack_header(len(body), VERSION, kind, 0, seq) + body


class Connection:
    """buf[pos:end] is what was received and not yet taken. `forked` is set in a child that the handler forked."""

    __slots__ = ("fd", "lock", "sending", "forked", "buf", "pos", "end")

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self.fd = fd
        self.lock = RLock()
        self.sending = self.forked = False
        self.buf = bytearray(CHUNK)
        self.pos = self.end = 0
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self):
        # A forked child shares the socket: let it write nothing there and read end-of-file.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self.fd, inheritable=False)
        os.close(null)
        self.lock = RLock()
        self.sending = False
        self.forked = True

    def fill(self, need):
        """Reads until buf[pos:end] has `need` bytes. The buffer may be another one afterwards."""
        left = self.end - self.pos
        size = need if need > CHUNK else CHUNK
        if size != len(self.buf):
            self.buf, old = bytearray(size), self.buf
            self.buf[:left] = old[self.pos:self.end]
        elif left:
            self.buf[:left] = self.buf[self.pos:self.end]
        self.pos = 0
        with memoryview(self.buf) as view:
            while left < need:
                try:
                    got = posix.readv(self.fd, (view[left:],))
                except ConnectionError:
                    got = 0
                if got == 0:
                    os._exit(0)
                left += got
        self.end = left

    def header(self):
        """The next frame's (type, seq, body length), its body complete in buf from pos + HEADER_BYTES on."""
        if self.end - self.pos < HEADER_BYTES:
            self.fill(HEADER_BYTES)
        length, version, kind, flags, seq = unpack_header(self.buf, self.pos)
        if version != VERSION or flags or length > BODY_MAX:
            self.broken("a frame of version %d, flags %d, %d bytes" % (version, flags, length))
        if self.end - self.pos < HEADER_BYTES + length:
            self.fill(HEADER_BYTES + length)
        return kind, seq, length

    def take(self):
        """Takes the next frame: (type, seq, body)."""
        kind, seq, length = self.header()
        start = self.pos + HEADER_BYTES
        self.pos = start + length
        return kind, seq, bytes(self.buf[start:self.pos])

    def send(self, data):
        """Hands whole frames to the kernel, in one call unless the socket is full."""
        with self.lock:
            self.sending = True
            try:
                sent = posix.write(self.fd, data)
                while sent != len(data):
                    data = data[sent:] if len(data) < CHUNK else memoryview(data)[sent:]
                    sent = posix.write(self.fd, data)
            except ConnectionError:
                os._exit(0)
            self.sending = False

    def broken(self, what):
        """The server broke the protocol: nothing that follows can be trusted."""
        os.write(2, ("weir runtime: cannot go on after %s\n" % what).encode())
        os._exit(76)


def connect():
    """The socket named by WEIR_FD, which the function's own code does not get to see."""
    return Connection(int(os.environ.pop("WEIR_FD", "3")))


def split_invoke(conn, length):
    """Where meta ends in conn.buf, for the INVOKE frame at conn.pos."""
    pos = conn.pos
    if length < 2:
        conn.broken("an INVOKE without meta")
    meta_end = pos + HEADER_BYTES + 2 + (conn.buf[pos + 12] | conn.buf[pos + 13] << 8)
    if meta_end > pos + HEADER_BYTES + length:
        conn.broken("an INVOKE whose meta is longer than its body")
    return meta_end


def limit_memory(memory_mb, slack_mb=0):
    """Leaves memory_mb MiB beyond what is in use now; see "Memory" in schema/frames.md for why two limits."""
    if not memory_mb:
        return
    with open("/proc/self/statm", "rb") as f:
        fields = f.read().split()
    page = resource.getpagesize()
    room = (memory_mb + slack_mb) << 20
    _lower(resource.RLIMIT_DATA, int(fields[5]) * page + room)
    _lower(resource.RLIMIT_AS, int(fields[0]) * page + 2 * room + (1 << 30))


def _lower(which, wanted):
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        wanted = hard
    resource.setrlimit(which, (wanted, wanted))
