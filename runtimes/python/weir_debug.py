# SPDX-License-Identifier: Apache-2.0
"""weir run --debug: one event under pdb, on the terminal of whoever started it.

The process keeps its standard streams, so that what the handler prints and what the debugger says come in their order. It
stops where the first line of the function's own files begins for the event, and where an exception leaves the handler. There is
no memory limit, and weir sets none on the time.
"""
import bdb
import os
import pdb
import sys

from weir_errors import users_part
from weir_frames import connect
from weir_logs import LogBuffer
from weir_runtime import init, serve


def main():
    conn = connect()
    log = LogBuffer(conn)
    _, _, body = conn.take()
    handler, base = init(conn, log, body, limited=False)
    serve(conn, log, _under_pdb(handler), base)


def _under_pdb(handler):
    debugger = pdb.Pdb(nosigint=True)  # Ctrl-C is weir's
    own_files = sys.path[0] + os.sep

    def begin(frame, what, arg):
        if not frame.f_code.co_filename.startswith(own_files):
            return None
        debugger.reset()
        sys.settrace(debugger.trace_dispatch)
        return debugger.trace_dispatch(frame, what, arg)

    def run(event, context):
        sys.settrace(begin)
        try:
            return handler(event, context)
        except bdb.BdbQuit:
            os._exit(0)
        except Exception as e:
            sys.settrace(None)
            debugger.message("%s: %s\nThe handler fails with this; here is where it was raised. q ends." % (type(e).__name__, e))
            debugger.reset()
            debugger.interaction(None, users_part(e.__traceback__))
            raise
        finally:
            sys.settrace(None)

    return run
