# SPDX-License-Identifier: Apache-2.0
"""JSON in and out through the interpreter's own scanner and encoder.

Importing `json` costs 3 ms of start (it compiles regular expressions that only its pure-Python fallback uses), and
json.loads/dumps cost a microsecond each on top of the C code. Where an interpreter lacks `_json`, the json module serves.
"""


def _no_constant(name):
    raise ValueError(name + " is not JSON")


def _not_carried(value):
    raise TypeError("a value of type %s cannot be carried by JSON" % type(value).__name__)


class _Rules:
    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)


try:
    from _json import encode_basestring, make_encoder, make_scanner

    scan = make_scanner(_Rules())
    _seen = {}
    encode_chunks = make_encoder(_seen, _not_carried, encode_basestring, None, ":", ",", False, False, False)
except (ImportError, TypeError, AttributeError):
    import json

    _seen = {}
    scan = json.JSONDecoder(parse_constant=_no_constant).scan_once
    _encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_not_carried)

    def encode_chunks(value, level):
        return (_encoder.encode(value),)


def loads(text):
    """ValueError or StopIteration when the text is not one JSON value; SystemError while json.decoder is not imported,
    because the scanner takes its exception from there, and only from there if it is loaded."""
    value, end = scan(text, 0)
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise ValueError("more than one value")
    return value


def event_of(raw):
    """What a handler gets for a payload: its JSON value, else its text, else its bytes. The slow way, for what scan()
    alone has not taken."""
    import json.decoder  # noqa: F401
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return bytes(raw)
    try:
        return loads(text.lstrip("\ufeff \t\r\n"))
    except (ValueError, StopIteration):
        return text


def dumps(value):
    _seen.clear()  # an encoder that stopped midway leaves its marks behind, and would find them again as circles
    try:
        return "".join(encode_chunks(value, 0)).encode()
    except UnicodeEncodeError:
        return _dumps_ascii(value)
    finally:
        _seen.clear()


def _dumps_ascii(value):
    """Lone surrogates have no UTF-8; JSON can still carry them, escaped."""
    import json
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_not_carried).encode()
