# SPDX-License-Identifier: Apache-2.0
"""Checks a server's real answers against schema/openapi.yaml.

    import openapi_check
    openapi_check.check("GET", "/v1/letters?limit=1", status, headers, body)
    openapi_check.check_request("POST", "/v1/replays", {"ids": [...]})

`headers` is a mapping or a list of pairs, `body` bytes. What does not fit raises Mismatch (an AssertionError) that says where. Of a
request that was accepted, the parameters of its query, and its body when `sent` is given, must be described too.
`coverage()` tells which operations and statuses were seen, so that a suite can ask for all of them.
Needs Debian's python3-yaml and python3-jsonschema.
"""
import functools
import json
import pathlib
import re
import urllib.parse

import jsonschema
import yaml

SPEC_PATH = pathlib.Path(__file__).resolve().parents[2] / "schema" / "openapi.yaml"
METHODS = ("get", "put", "post", "patch", "delete")
_seen = {}


class Mismatch(AssertionError):
    """An answer, or a request, that the description does not allow."""


@functools.lru_cache(maxsize=None)
def spec():
    return yaml.safe_load(SPEC_PATH.read_text())


def _resolved(node):
    while "$ref" in node:
        target = spec()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def _errors(schema, value):
    # References are looked up from the root of the description, so the schema is wrapped into it.
    root = {"components": spec()["components"], "allOf": [schema]}
    return sorted(jsonschema.Draft202012Validator(root).iter_errors(value), key=lambda e: list(e.absolute_path))


def _explain(error):
    where = "/".join(str(part) for part in error.absolute_path) or "the whole"
    deeper = "; ".join(f"{'/'.join(map(str, sub.absolute_path))}: {sub.message}" for sub in (error.context or [])[:4])
    return f"{where}: {error.message[:300]}" + (f" ({deeper[:400]})" if deeper else "")


def _demand(schema, value, what):
    found = _errors(schema, value)
    if found:
        raise Mismatch(f"{what}: " + " | ".join(_explain(error) for error in found[:3]))


@functools.lru_cache(maxsize=None)
def _templates():
    """(compiled path, template), the more literal ones first: /v1/letters/purge before /v1/letters/{id}."""
    found = []
    for template in spec()["paths"]:
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        found.append((template.count("{"), re.compile(pattern), template))
    return sorted(found, key=lambda entry: entry[0])


def template_of(path):
    """The path of the description that fits a request's path; None: there is none."""
    bare = urllib.parse.urlsplit(path).path
    return next((template for _, pattern, template in _templates() if pattern.fullmatch(bare)), None)


def operation(method, path):
    template = template_of(path)
    return template, spec()["paths"][template].get(method.lower()) if template else None


def _response_of(operation_, status):
    responses = operation_["responses"]
    return _resolved(responses.get(str(status)) or responses["default"])


def _check_headers(response, headers, what):
    for name, header in response.get("headers", {}).items():
        header = _resolved(header)
        value = headers.get(name.lower())
        if value is None and header.get("required"):
            raise Mismatch(f"{what}: the header {name} is missing")
        if value is not None:
            _demand(header["schema"], value, f"{what}: header {name}")


def _check_body(response, headers, body, what):
    media = headers.get("content-type", "").split(";")[0].strip().lower()
    contents = response.get("content", {})
    if media not in contents:
        raise Mismatch(f"{what}: content type {media!r} is not one of {sorted(contents)}")
    schema = contents[media].get("schema")
    if schema is None:
        return  # a function's own result
    if media == "application/json":
        try:
            value = json.loads(body)
        except ValueError as why:
            raise Mismatch(f"{what}: the body is not JSON: {why}: {body[:200]!r}") from None
        _demand(schema, value, f"{what}: body")
        if isinstance(value, dict) and "code" in value and value.get("requestId") != headers.get("x-weir-request-id"):
            raise Mismatch(f"{what}: requestId of the body is not that of the header")
    else:
        _demand(schema, body.decode(), f"{what}: body")


def parameters(method, template):
    """The names that the query of an operation may have."""
    item = spec()["paths"][template]
    every = [_resolved(one) for one in [*item[method].get("parameters", []), *item.get("parameters", [])]]
    return {one["name"] for one in every if one["in"] == "query"}


def _check_query(method, template, path, what):
    described = parameters(method.lower(), template)
    given = {name for name, _ in urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query, keep_blank_values=True)}
    if given - described:
        raise Mismatch(f"{what}: accepted, but the description has no parameter {sorted(given - described)}")


def _check_accepted(method, path, found, template, sent, what):
    _check_query(method, template, path, what)
    if sent and "application/json" in found.get("requestBody", {}).get("content", {}):
        check_request(method, path, json.loads(sent))


def check(method, path, status, headers, body, sent=None):
    """Raises Mismatch unless the answer to this request is as described. Returns the body: JSON decoded, else bytes."""
    headers = {name.lower(): value for name, value in (headers.items() if hasattr(headers, "items") else headers)}
    what = f"{method} {path} -> {status}"
    template, found = operation("GET" if method == "HEAD" else method, path)
    if found is None:
        wanted = 405 if template else 404
        if status not in (wanted, 401, 408, 413, 417, 431, 501, 503, 505, 400):
            raise Mismatch(f"{what}: the description has no such operation, so {wanted} is due")
        if status == 405 and not headers.get("allow"):
            raise Mismatch(f"{what}: 405 without Allow")
        response = _resolved({"$ref": "#/components/responses/Error"})
    else:
        response = _response_of(found, status)
        if status < 400 and str(status) not in found["responses"]:
            raise Mismatch(f"{what}: the description does not have this status")
        if status < 300:
            _check_accepted(method, path, found, template, sent, what)
        _seen.setdefault(found["operationId"], set()).add(status)
    _check_headers(response, headers, what)
    if status in (429, 503) and "retry-after" not in headers:
        raise Mismatch(f"{what}: the header Retry-After is missing")
    if method == "HEAD":
        if body:
            raise Mismatch(f"{what}: an answer to HEAD has no body")
        return b""
    _check_body(response, headers, body, what)
    return json.loads(body) if headers.get("content-type", "").startswith("application/json") and body else body


def check_request(method, path, body):
    """Raises Mismatch unless this JSON value is a request body as described."""
    _, found = operation(method, path)
    if found is None or "requestBody" not in found:
        raise Mismatch(f"{method} {path} takes no body")
    _demand(found["requestBody"]["content"]["application/json"]["schema"], body, f"{method} {path}: request body")


def coverage():
    """{operationId: statuses seen by check}, with an empty set for operations never seen."""
    every = {item[method]["operationId"] for item in spec()["paths"].values() for method in METHODS if method in item}
    return {name: _seen.get(name, set()) for name in sorted(every)}


def check_spec():
    """Raises when the description itself is broken: a schema that is none, a reference to nothing, an example that does not fit."""
    def walk(node):
        if isinstance(node, dict):
            if "schema" in node and "example" in node:
                _demand(node["schema"], node["example"], f"the example {str(node['example'])[:80]}")
            if isinstance(node.get("$ref"), str):
                _resolved(node)
            if isinstance(node.get("schema"), dict):
                jsonschema.Draft202012Validator.check_schema(node["schema"])
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)

    walk(spec())
    for schema in spec()["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
