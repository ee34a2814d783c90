# SPDX-License-Identifier: Apache-2.0
"""GET /v1/status and the names of parameters, of a real server."""
import json
import re
import urllib.error
import urllib.request

import openapi_check


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
