# SPDX-License-Identifier: Apache-2.0
"""A store on PostgreSQL over TLS: libpq does the work, and what it refuses ends the start with its words."""
import psycopg2
import pytest

import services
from pipeline import ALONE
from server import StartFailed


class TlsPostgres(services.Postgres):
    def start(self):
        self.url = self._run("start", "--tls").strip()
        return self.url

    def at(self, host="localhost", ca="ca"):
        return f"postgresql://weir@{host}:{self.port}/weir?sslmode=verify-full&sslrootcert={self.dir}/tls/{ca}.pem"


@pytest.fixture(scope="module")
def db():
    with TlsPostgres() as made:
        yield made


def test_a_store_over_tls(serve, db):
    server = serve({**ALONE, "store": db.at()})
    server.deploy("job", "def main_handler(event, context): raise ValueError('no')", retries=0)
    server.send("job", {"n": 1})
    server.wait_letters(1)
    with psycopg2.connect(db.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                       "WHERE datname = 'weir' AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
        encrypted, count = cursor.fetchone()
    assert encrypted and count >= 1


@pytest.mark.parametrize("host, ca, text", [
    ("localhost", "other", "certificate verify failed"),
    ("127.0.0.1", "ca", 'does not match host name "127.0.0.1"'),
])
def test_a_wrong_certificate_ends_the_start(serve, db, host, ca, text):
    with pytest.raises(StartFailed, match=text) as failed:
        serve({**ALONE, "store": db.at(host, ca)})
    assert failed.value.exit_code == 1
