# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL, RabbitMQ or Kafka for a test, each in a folder of its own on free loopback ports.

    with Postgres() as db, RabbitMQ() as mq:
        run("weir", "serve", "--store", db.url, "--queue", mq.url)
        db.kill9()
        db.start()          # the same port, and what was committed is there

Without a folder they make one below the temporary folder and remove it at close(); a folder that is given (it must be
below the temporary folder when root runs the tests) is left to the caller. Standard library only.
"""
import pathlib
import shutil
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


class Service:
    script = ""
    start_seconds = 400  # more than the scripts wait

    def __init__(self, dir=None):
        self._own = dir is None
        if self._own:
            base = pathlib.Path(tempfile.mkdtemp(prefix=f"weir-{self.script}-"))
            base.chmod(0o711)
            self._base = base
            dir = base / self.script
        self.dir = pathlib.Path(dir).resolve()
        self.url = None

    def _run(self, command, *arguments):
        done = subprocess.run(
            [str(HERE / self.script), command, str(self.dir), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=self.start_seconds)
        if done.returncode != 0:
            raise RuntimeError(f"{self.script} {command}: {done.stderr.strip()}")
        return done.stdout

    def start(self):
        """Returns the URL once the service answers. The same URL at every start; fine when it runs already."""
        self.url = self._run("start").splitlines()[0]
        return self.url

    def stop(self):
        """A clean shutdown; fine when it does not run."""
        self._run("stop")

    def kill9(self):
        """kill -9 of all its processes; returns when they are gone."""
        self._run("kill")

    def restart(self):
        self.url = self._run("restart").splitlines()[0]
        return self.url

    def pause(self):
        """SIGSTOP: connected, but silent. resume() continues."""
        self._run("pause")

    def resume(self):
        self._run("resume")

    @property
    def port(self):
        return int((self.dir / "port").read_text())

    def close(self):
        """Ends it, data and all."""
        self.kill9()
        if self._own:
            shutil.rmtree(self._base, ignore_errors=True)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()


class Postgres(Service):
    script = "postgres"


class RabbitMQ(Service):
    script = "rabbitmq"


class Kafka(Service):
    """Its `url` is host:port, what clients call a bootstrap server. The first start of all loads its jars."""

    script = "kafka"
    start_seconds = 900
