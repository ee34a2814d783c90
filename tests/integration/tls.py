# SPDX-License-Identifier: Apache-2.0
"""What the tests of TLS share: a look for passwords, and a door in front of a real server.

    with Front(server_port) as door: …; door.cut()        # as a network that breaks: all connections at once
    with Front(server_port, certificate, key) as door: …  # TLS up to here, with a certificate that the server does not have
"""
import contextlib
import json
import socket
import ssl
import struct
import threading


def check_secret(server, password, *names):
    """It is in no log, no listing of triggers, no audit."""
    shown = [server.http("GET", path)[2] for path in ("/v1/triggers", "/v1/status", "/v1/audit?limit=1000")]
    for words in (["list"], ["list", "--json"], *(["show", name] for name in names)):
        done = server.cli("trigger", *words)
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout)
    assert password not in json.dumps(shown, default=str)
    assert password not in server.log_text()


class Front:
    """On a port of its own: what comes in goes to the server's port, and back."""

    def __init__(self, port, certificate=None, key=None):
        self._to = port
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock, self._open = threading.Lock(), set()
        threading.Thread(target=self._accept, name="front", daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._listener.close()
        self.cut()

    def cut(self):
        """Resets all connections; returns how many."""
        with self._lock:
            found = list(self._open)
        for each in found:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)  # wakes who reads from it
        return len(found)

    def _accept(self):
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), name="front", daemon=True).start()

    def _serve(self, caller):
        with contextlib.suppress(OSError), caller:  # ssl.SSLError is one
            caller = self._tls.wrap_socket(caller, server_side=True) if self._tls else caller
            with socket.create_connection(("127.0.0.1", self._to)) as server, caller:
                with self._lock:
                    self._open.add(caller)
                back = threading.Thread(target=self._pass, args=(server, caller), name="front", daemon=True)
                back.start()
                self._pass(caller, server)
                back.join()
                with self._lock:
                    self._open.discard(caller)

    @staticmethod
    def _pass(source, to):
        """Until one of both ends."""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
        for each in (source, to):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
