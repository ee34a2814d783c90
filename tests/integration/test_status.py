# SPDX-License-Identifier: Apache-2.0
"""What a real server says of itself: the parameters it takes, and how it ends without its database."""
import json
import os
import re
import subprocess
import urllib.error
import urllib.request

import openapi_check
from server import BIN, RUNTIMES


def refusal(server, method, path):
    request = urllib.request.Request(server.url + path, method=method, data=b"{}" if method != "GET" else None)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as answer:
        return answer.code, json.loads(answer.read())["message"]
    return 200, ""


def test_the_server_takes_the_parameters_that_are_described_and_no_others(serve):
    server = serve()
    operations = [(template, method) for template, methods in openapi_check.spec()["paths"].items() if template.startswith("/v1/")
                  for method in methods if method in openapi_check.METHODS]
    assert len(operations) > 40
    for template, method in operations:
        described = openapi_check.parameters(method, template)
        status, message = refusal(server, method.upper(), re.sub(r"\{\w+\}", "1", template) + "?zzzzzzzzzzzzzzzz=1")
        known = message.partition("there are: ")[2].split()
        assert (status, sorted(known)) == (400, sorted(described)), (method, template, message)
        assert known or message == "unknown parameter 'zzzzzzzzzzzzzzzz'; this path takes none"


def test_a_server_without_its_database_says_which_one_and_that_it_ended(folder):
    done = subprocess.run([BIN, "serve", "--store", "postgresql://weir:s3cret@127.0.0.1:1/shop", "--listen", "127.0.0.1:0", "--data", folder],
                          env={**os.environ, **RUNTIMES}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "weir: the store postgresql://weir:***@127.0.0.1:1/shop: " in done.stderr and done.stderr.endswith("the server has ended\n")
    assert "s3cret" not in done.stdout + done.stderr
