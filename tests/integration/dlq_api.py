# SPDX-License-Identifier: Apache-2.0
"""What the tests of the HTTP API of dead letters share: letters to bring in, calls, and all that a server has."""
import json
import urllib.parse

FUNCTION = "orders"
FAILS = """
    import json
    from collect import tell
    def main_handler(event, context):
        if not event.get("ok"): raise KeyError(event.get("customer"))
        tell(context["request_id"], json.dumps(event, sort_keys=True).replace(" ", ""))
        return "fine"
"""
MISSING = "0192f3c4-0000-7000-8000-ffffffffffff"


def ident(n):
    return f"0192f3c4-0000-7000-8000-{n:012x}"


def whole(n, **more):
    """A letter as a listing with full=true gives it."""
    return {"id": ident(n), "function": FUNCTION, "payload": json.dumps({"n": n}), "errorType": "KeyError", "errorMessage": "no total",
            "acceptedMs": 1760000000000 + n, **more}


def ask(server, method, path, body=None, status=200, **query):
    path += "?" + urllib.parse.urlencode(query) if query else ""
    got, _, answer = server.http(method, path, body)
    assert got == status, f"{method} {path} {str(body)[:300]}: {got} {answer}"
    return answer


def refused(server, method, path, body=None, status=400, **query):
    """What the answer says is wrong."""
    return ask(server, method, path, body, status, **query)["message"]


def bring(server, letters):
    answer = ask(server, "POST", "/v1/letters/import", {"letters": letters})
    assert answer == {"imported": len(letters), "there": 0, "refused": []}


def everything(server):
    """All letters whole, by id."""
    found = {}
    for state in ("due", "dead", "replaying", "replayed", "discarded"):
        cursor = {}
        while cursor is not None:
            page = ask(server, "GET", "/v1/letters", state=state, full="true", limit=1000, **cursor)
            found.update({letter["id"]: letter for letter in page["letters"]})
            cursor = {"cursor": page["next"]} if page["next"] else None
    return found
