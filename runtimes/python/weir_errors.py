# SPDX-License-Identifier: Apache-2.0
"""The body of an ERROR frame: what a Python programmer would see on a terminal, without the runtime's own frames.

A poison message fails again and again at the same place, so the text of a traceback line is kept by (code, instruction);
anything but a plain traceback goes through the traceback module, which is imported at the first error only.
"""
import os

import weir_json

STACK_MAX = 64 * 1024
MESSAGE_MAX = 16 * 1024
CACHED_LINES = 512
PLAIN_DEPTH = 40

_own_files = os.path.dirname(os.path.abspath(__file__)) + os.sep
_lines = {}
_code_prefix = None


class Refused(Exception):
    """An error found by the runtime, not raised by the function: it has no stack."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def shorten_paths(code_dir):
    """Files of the function are shown as they were deployed: orders.py, not where this version lies on this node."""
    global _code_prefix
    _code_prefix = 'File "%s%s' % (code_dir, os.sep)


def describe(e):
    if isinstance(e, Refused):
        return _body(e.kind, str(e), "", False)
    fatal = isinstance(e, MemoryError)
    try:
        message = str(e)
    except Exception as broken:
        message = "<str() of the exception failed: %s>" % type(broken).__name__
    if fatal and not message:
        message = "out of memory: the function needs more than its limit (weir deploy --memory)"
    stack = _stack(e)
    if _code_prefix is not None:
        stack = stack.replace(_code_prefix, 'File "')
    return _body(type(e).__name__, message, _cut(stack), fatal)


def _body(kind, message, stack, fatal):
    if len(message) > MESSAGE_MAX:
        message = message[:MESSAGE_MAX] + " [...]"
    report = {"type": kind, "message": message, "stack": stack}
    if fatal:
        report["fatal"] = True
    return weir_json.dumps(report)


def _cut(stack):
    """At most STACK_MAX bytes, keeping the end, where the reason is."""
    if len(stack) <= STACK_MAX // 4:
        return stack
    raw = stack.encode("utf-8", "backslashreplace")
    if len(raw) <= STACK_MAX:
        return stack
    return "[...]\n" + raw[len(raw) - STACK_MAX + 6:].decode("utf-8", "ignore")


def _stack(e):
    tb = users_part(e.__traceback__)
    if _is_plain(e):
        lines = _plain(tb)
        if lines is not None:
            return "".join(lines) + _last_line(e)
    from traceback import format_exception
    return "".join(format_exception(type(e), e, tb))


def users_part(tb):
    """Leaves out the frames above the handler: the runtime's, and those of asyncio that the runtime called."""
    first = tb
    while tb is not None and _is_own(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    if tb is first or tb is None or not _is_asyncio(tb):
        return tb
    inner = tb
    while inner is not None and _is_asyncio(inner):
        inner = inner.tb_next
    while inner is not None and _is_own(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return inner or tb


def _is_own(filename):
    return filename.startswith(_own_files)


def _is_asyncio(tb):
    return tb.tb_frame.f_globals.get("__package__") == "asyncio"


def _is_plain(e):
    if e.__cause__ is not None or (e.__context__ is not None and not e.__suppress_context__):
        return False
    return not isinstance(e, (SyntaxError, NameError, AttributeError, ImportError)) \
        and not hasattr(e, "__notes__") and not hasattr(e, "exceptions")


def _plain(tb):
    """None when the traceback module would print something else than one text a frame."""
    if tb is None:
        return []
    lines = ["Traceback (most recent call last):\n"]
    while tb is not None:
        line = _line(tb)
        if len(lines) > PLAIN_DEPTH or line == lines[-1]:
            return None
        lines.append(line)
        tb = tb.tb_next
    return lines


def _line(tb):
    code = tb.tb_frame.f_code
    key = (id(code), tb.tb_lasti)
    known = _lines.get(key)
    if known is None:
        from traceback import format_tb
        if len(_lines) >= CACHED_LINES:
            _lines.clear()
        one = type(tb)(None, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
        known = _lines[key] = (code, "".join(format_tb(one)))  # holding `code` keeps its id from being used again
    return known[1]


def _last_line(e):
    kind = type(e)
    name = kind.__qualname__
    if kind.__module__ not in ("__main__", "builtins"):
        name = kind.__module__ + "." + name
    try:
        text = str(e)
    except Exception:
        text = "<exception str() failed>"
    return "%s: %s\n" % (name, text) if text else name + "\n"
