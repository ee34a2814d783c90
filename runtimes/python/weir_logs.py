# SPDX-License-Identifier: Apache-2.0
"""What a handler prints becomes LOG frames of its event.

Text is kept until the event ends, until it exceeds FLUSH_AT, or until it is TICK_S old (a helper thread that exists only
after the first print, and sleeps on a lock when nothing is printed): so a fast handler pays no system call for a print,
and the last words of a handler that hangs are not lost. An event may pass PASS bytes; of what follows, the last TAIL bytes
are kept. Nothing here grows beyond PASS + 2 * TAIL bytes.
"""
import _thread
import io
import os
import time

from weir_frames import LOG, frame

PASS = 256 * 1024
TAIL = 4 * 1024
FLUSH_AT = 16 * 1024
TICK_S = 0.05
IDLE_TICKS = 40
PIECE = 64 * 1024


class LogBuffer:
    """`seq` is the running event, 0 between events. `used` says whether the event has written anything."""

    __slots__ = ("conn", "seq", "used", "parts", "size", "room", "tail", "dropped", "ticking", "parked", "wake")

    def __init__(self, conn):
        self.conn = conn
        self.seq = 0
        self.parts = []
        self.size = 0
        self.ticking = self.parked = False
        self.wake = _thread.allocate_lock()
        self.wake.acquire()
        self._reset()

    def _reset(self):
        self.used = False
        self.room = PASS
        self.tail = bytearray()
        self.dropped = 0

    def add(self, data):
        """`data` is whole UTF-8 text."""
        with self.conn.lock:
            self.used = True
            length = len(data)
            if length > self.room:
                data = self._overflow(data)
                length = len(data)
            if length:
                self.room -= length
                self.size += length
                self.parts.append(data)
            if self.size > FLUSH_AT and not self.conn.sending:
                self.flush()
            elif self.parked:
                self.parked = False
                self.wake.release()
            elif not self.ticking:
                self._start_ticking()

    def _overflow(self, data):
        """Puts what has no room into the tail; returns what has."""
        cut = self.room
        while cut and data[cut] & 0xC0 == 0x80:
            cut -= 1
        self.tail += data[cut:] if len(data) - cut <= TAIL else data[-TAIL:]
        self.dropped += len(data) - cut
        if len(self.tail) > 2 * TAIL:
            del self.tail[:-TAIL]
        self.room = cut
        return data[:cut]

    def flush(self):
        with self.conn.lock:
            if self.size:
                self.conn.send(self._frames())

    def _frames(self):
        data = b"".join(self.parts)
        self.parts.clear()
        self.size = 0
        return frame(LOG, self.seq, data)

    def finish(self):
        """The LOG frames still owed for the event that ends now."""
        with self.conn.lock:
            if self.dropped:
                self._add_tail()
            frames = self._frames() if self.size else b""
            self._reset()
            return frames

    def _add_tail(self):
        kept = bytes(self.tail[-TAIL:])
        while kept and kept[0] & 0xC0 == 0x80:
            kept = kept[1:]
        lost = self.dropped - len(kept)
        note = b"\n[... %d bytes dropped ...]\n" % lost if lost else b""
        self.parts.append(note + kept)
        self.size += len(note) + len(kept)

    def _start_ticking(self):
        self.ticking = True
        before = _thread.stack_size(128 * 1024)
        try:
            _thread.start_new_thread(self._tick, ())
        except RuntimeError:  # no room for a thread: flushed at the end of the event then
            pass
        finally:
            _thread.stack_size(before)

    def _tick(self):
        idle = 0
        while True:
            time.sleep(TICK_S)
            with self.conn.lock:
                idle = 0 if self.size else idle + 1
                self.flush()
                park = self.parked = idle > IDLE_TICKS
            if park:
                self.wake.acquire()
                idle = 0


class LogStream(io.TextIOBase):
    """Stands for sys.stdout and sys.stderr. A forked child writes to the inherited descriptor instead."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = True
    mode = "w"

    def __init__(self, log, fd, name):
        self._log = log
        self._fd = fd
        self.name = name
        self._buffer = None

    def write(self, text):
        if type(text) is not str and not isinstance(text, str):
            raise TypeError("write() argument must be str, not %s" % type(text).__name__)
        if self._log.conn.forked:
            _write_raw(self._fd, text.encode("utf-8", "backslashreplace"))
        elif len(text) > PIECE:
            self._write_long(text)
        elif text:
            self._log.add(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def _write_long(self, text):
        """In pieces, so that a huge text is not held a second time as bytes."""
        for start in range(0, len(text), PIECE):
            self._log.add(text[start:start + PIECE].encode("utf-8", "backslashreplace"))

    @property
    def buffer(self):
        if self._buffer is None:
            self._buffer = _ByteStream(self)
        return self._buffer

    def fileno(self):
        return self._fd

    def isatty(self):
        return False

    def writable(self):
        return True

    def reconfigure(self, **settings):
        pass

    def close(self):
        pass


class _ByteStream(io.BufferedIOBase):
    """sys.stdout.buffer: bytes that are not UTF-8 are shown as U+FFFD."""

    def __init__(self, text):
        import codecs
        self._text = text
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.name = text.name
        self.mode = "wb"

    def write(self, data):
        data = bytes(data)
        self._text.write(self._decode(data))
        return len(data)

    def writable(self):
        return True

    def fileno(self):
        return self._text.fileno()

    def close(self):
        pass


def _write_raw(fd, data):
    while data:
        data = data[os.write(fd, data):]
