# SPDX-License-Identifier: Apache-2.0
"""Where handlers tell when they ran: a port that takes records of a tag and time.time(), 9 bytes each. A connection that is kept
costs a handler a few microseconds a call, and works out of a sandbox.
"""
import socket
import struct
import threading

RECORD = struct.Struct("<cd")
HANDLER = """# SPDX-License-Identifier: Apache-2.0
import socket, struct, time
clock = socket.create_connection(("127.0.0.1", %d))

def main_handler(event, context):
    clock.send(struct.pack("<cd", b"r", time.time()))
"""


class Clock:
    """with Clock() as clock: …; clock.take(b"r") gives the times that handlers told."""

    def __init__(self):
        self.times = {}
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def handler(self):
        return (HANDLER % self.port).encode()

    def take(self, tag, since=0.0):
        with self.lock:
            return [at for at in self.times.get(tag, []) if at >= since]

    def _accept(self):
        while True:
            try:
                conn = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._read, args=(conn,), daemon=True).start()

    def _read(self, conn):
        rest = b""
        with conn:
            while data := conn.recv(65536):
                rest += data
                whole = len(rest) // RECORD.size * RECORD.size
                with self.lock:
                    for tag, at in RECORD.iter_unpack(rest[:whole]):
                        self.times.setdefault(tag, []).append(at)
                rest = rest[whole:]
