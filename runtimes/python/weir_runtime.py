# SPDX-License-Identifier: Apache-2.0
"""Runs one Python function: waits for INIT, loads the handler, then answers INVOKE after INVOKE (schema/frames.md).

serve() is the hot path. It keeps to these rules: one read for as many events as the socket holds, one write for all frames
of an event, and that write is made before the next event's code begins, so that the oldest unanswered event is the one a
dead process was running.
"""
import faulthandler
import gc
import os
import sys
from time import monotonic

import weir_json
from weir_errors import Refused, describe
from weir_frames import (ERROR, HEADER_BYTES, INIT, INVOKE, PING, PONG, READY, RESULT, RESULT_MAX, STOP, VERSION, connect,
                         frame, limit_memory, pack_header, split_invoke, unpack_header)
from weir_load import load, prepare
from weir_logs import LogBuffer, LogStream

RESERVE_BYTES = 2 * 1024 * 1024  # given back when memory runs out, so that the error can still be told


def main():
    conn = connect()
    log = LogBuffer(conn)
    _take_over_process(log)
    kind, _, body = conn.take()
    if kind == STOP:
        os._exit(0)
    if kind != INIT:
        conn.broken("type %d before INIT" % kind)
    handler, base = init(conn, log, body)
    serve(conn, log, handler, base)


def _take_over_process(log):
    faulthandler.enable(2)
    faulthandler.register(3, 2, all_threads=False, chain=False)  # SIGQUIT: say on fd 2 where the handler is
    sys.stdout = LogStream(log, 1, "<stdout>")
    sys.stderr = LogStream(log, 2, "<stderr>")
    exit_now = os._exit

    def flush_and_exit(status):
        if not log.conn.forked:
            log.flush()
        exit_now(status)

    os._exit = flush_and_exit


def init(conn, log, body, limited=True):
    """Answers INIT; returns the handler, and what every event's context starts from."""
    start = monotonic()
    try:
        given = weir_json.loads(body.decode())
        base = prepare(given)
        if limited:
            limit_memory(given.get("memory_mb"))
        handler = load(given["handler"])
    except BaseException as e:
        conn.send(log.finish() + frame(ERROR, 0, describe(e)))
        os._exit(1)
    gc.freeze()
    ready = {"runtime": "python" + sys.version.split()[0], "load_ms": round((monotonic() - start) * 1000, 1)}
    conn.send(log.finish() + frame(READY, 0, weir_json.dumps(ready)))
    return handler, base


def serve(conn, log, handler, base):
    """Names are bound to locals, and header() and split_invoke() are written out, because this runs for each event."""
    scan, encode_chunks, event_of = weir_json.scan, weir_json.encode_chunks, weir_json.event_of
    unpack, pack, send, new_context, join = unpack_header, pack_header, conn.send, base.copy, "".join
    reserve = [bytearray(RESERVE_BYTES)]
    event = context = result = None
    while True:
        buf, pos, have = conn.buf, conn.pos, conn.end - conn.pos
        if have < HEADER_BYTES or have < HEADER_BYTES + unpack(buf, pos)[0]:
            log.seq = 0
            conn.header()
            buf, pos = conn.buf, conn.pos
        length, version, kind, flags, seq = unpack(buf, pos)
        if kind != INVOKE or version != VERSION or flags or length < 2:
            _control(conn, log)
            continue
        meta = pos + 14
        payload = meta + (buf[pos + 12] | buf[pos + 13] << 8)
        end = conn.pos = pos + 12 + length
        if payload > end:
            conn.broken("an INVOKE whose meta is longer than its body")
        log.seq = seq
        kind = RESULT
        try:
            context = new_context()
            context["headers"] = {}
            context.update(scan(buf[meta:payload].decode(), 0)[0])
            if payload != end:
                try:
                    text = buf[payload:end].decode()
                    event, stop = scan(text, 0)
                    if stop != len(text):
                        event = event_of(buf[payload:end])
                except (ValueError, StopIteration, SystemError):
                    event = event_of(buf[payload:end])
                text = None
            result = handler(event, context)
            try:
                body = join(encode_chunks(result, 0)).encode()
            except BaseException:
                body = _encode_slowly(result)
            if len(body) > RESULT_MAX:
                kind, body = ERROR, _too_large(body)
        except BaseException as e:
            kind, body = ERROR, _failure(conn, e, reserve)
        if conn.forked:
            os._exit(0)
        event = context = result = None
        if log.used:
            send(log.finish() + pack(len(body), 1, kind, 0, seq) + body)
        else:
            send(pack(len(body), 1, kind, 0, seq) + body)
        if not reserve:
            os._exit(1)


def _control(conn, log):
    """Anything but an INVOKE."""
    kind, seq, body = conn.take()
    if kind == PING:
        conn.send(frame(PONG, seq, body))
    elif kind == STOP:
        import atexit
        atexit._run_exitfuncs()
        conn.send(log.finish())
        os._exit(0)
    else:
        conn.broken("a frame of type %d" % kind)


def _encode_slowly(result):
    """A coroutine that a plain function returned is run; anything else that JSON refuses is the function's error."""
    if hasattr(type(result), "__await__"):
        result = _await(result)
    try:
        return weir_json.dumps(result)
    except (TypeError, ValueError, RecursionError) as e:
        raise Refused("ResultNotSerializable", "the function returned %s: %s" % (type(result).__name__, e)) from None


def _await(awaitable):
    import asyncio

    async def finish():
        return await awaitable

    return asyncio.run(finish())


def _too_large(body):
    return describe(Refused("ResultTooLarge", "the result has %d bytes; at most %d are allowed" % (len(body), RESULT_MAX)))


def _failure(conn, e, reserve):
    if conn.forked:
        _end_child(e)
    try:
        if isinstance(e, MemoryError):
            reserve.clear()
        return describe(e)
    except MemoryError:
        reserve.clear()
        return b'{"type":"MemoryError","message":"out of memory","stack":"","fatal":true}'


def _end_child(e):
    """An exception that leaves the handler in a child that the handler forked ends that child as it would anywhere."""
    if isinstance(e, SystemExit):
        os._exit(e.code if isinstance(e.code, int) else 0 if e.code is None else 1)
    sys.excepthook(type(e), e, e.__traceback__)
    os._exit(1)
