# SPDX-License-Identifier: Apache-2.0
"""Hears what handlers did: a TCP server on loopback to which each instance connects once and writes lines.

    with Collector() as collector:
        server = Server(folder, collector=collector)      # its deploys get the module `collect` and the variable COLLECT
        server.deploy("job", '''
            from collect import tell
            def main_handler(event, context):
                tell(context["request_id"], context["attempt"])   # the last act: this attempt was carried out
        ''')
        ids = server.send_async("job", range(100))
        collector.wait_for(ids)
        assert collector.count(ids[0]) == 1

A line is words with a space between. count() goes by the first word, so a handler that has more to tell begins such a
line with another word: tell("begin", id, attempt). A line that tell() returned from was handed to the kernel: it is heard
even when the instance is killed right after, and whoever asks has it, however busy this process is.
"""
import collections
import selectors
import socket
import threading

from waiting import wait_until

# Goes into packages as collect.py.
HANDLER_SIDE = '''\
import os
import socket

_stream = None
_owner = None


def tell(*words):
    global _stream, _owner
    if _owner != os.getpid():
        host, port = os.environ["COLLECT"].split(":")
        _stream = socket.create_connection((host, int(port)), 10)
        _owner = os.getpid()
    _stream.sendall((" ".join(str(word) for word in words) + "\\n").encode())
'''


class Collector:
    def __init__(self):
        self._lock = threading.Lock()     # of what was heard
        self._hearing = threading.Lock()  # of the connections
        self._lines = []
        self._first = collections.Counter()
        self._selector = selectors.DefaultSelector()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._socket.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._socket, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self._socket.getsockname()[1]

    @property
    def lines(self):
        """Everything heard so far, in the order of hearing: a list of strings."""
        self._hear()
        with self._lock:
            return list(self._lines)

    def count(self, word):
        """How many lines began with this word, which is the id of an event for plain ones."""
        self._hear()
        with self._lock:
            return self._first[str(word)]

    def counts(self):
        self._hear()
        with self._lock:
            return collections.Counter(self._first)

    def about(self, word):
        """The lines, split into words, that contain this word."""
        return [words for words in map(str.split, self.lines) if str(word) in words]

    def missing(self, ids):
        self._hear()
        with self._lock:
            return [each for each in ids if not self._first[each]]

    def repeated(self, ids):
        """{id: count} of those heard more than once."""
        self._hear()
        with self._lock:
            return {each: self._first[each] for each in ids if self._first[each] > 1}

    def wait_for(self, ids, seconds=30):
        ids = list(ids)
        wait_until(lambda: not self.missing(ids), seconds,
                   lambda: f"{len(ids)} events handled ({len(self.missing(ids))} are missing, such as {self.missing(ids)[:3]})")

    def clear(self):
        self._hear()
        with self._lock:
            self._lines.clear()
            self._first.clear()

    def close(self):
        self._wake.send(b"x")
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._wake.close()
        self._selector.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _run(self):
        while not any(key.fileobj is self._woken for key, _ in self._selector.select()):
            self._hear()

    def _hear(self):
        """All that the kernel has now."""
        with self._hearing:
            for _ in range(100):  # more than its buffers hold: writers that never pause do not keep us here
                ready = [key for key, _ in self._selector.select(0) if key.fileobj is not self._woken] if self._selector.get_map() else []
                for key in ready:
                    if key.fileobj is self._socket:
                        self._accept()
                    else:
                        self._read(key)
                if not ready:
                    return

    def _accept(self):
        try:
            stream, _ = self._socket.accept()
        except OSError:
            return
        stream.setblocking(False)
        self._selector.register(stream, selectors.EVENT_READ, bytearray())

    def _read(self, key):
        try:
            got = key.fileobj.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            got = b""
        if not got:  # a half line of a killed writer was never told
            self._selector.unregister(key.fileobj)
            key.fileobj.close()
            return
        key.data.extend(got)
        *whole, rest = bytes(key.data).split(b"\n")
        key.data[:] = rest
        with self._lock:
            for line in whole:
                text = line.decode(errors="replace")
                self._lines.append(text)
                self._first[text.split(" ", 1)[0]] += 1
