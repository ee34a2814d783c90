# SPDX-License-Identifier: Apache-2.0
"""Part sync-http: an echo handler behind HTTP, under wrk at 1, 2 and 32 connections, beside functions-framework and beside
the smallest proxy that could do it (proxy.c), which is the limit.

All three servers run during the whole part; one at a time gets load, in turn.
"""
import contextlib

import tools
from report import aim, ratio
from server import Weir, payload

CONNECTIONS = [1, 2, 32]


def load(url, connections, seconds):
    """Requests a second and the median latency in microseconds."""
    out = tools.run([tools.wrk(), "-t1", f"-c{connections}", f"-d{seconds}", "-s", tools.HERE / "post.lua", url])
    rate, p50, p99, sent, bad = map(float, out.rsplit("RESULT", 1)[1].split())
    if bad:
        raise RuntimeError(f"{url}: {bad:.0f} of {sent:.0f} requests failed")
    return rate, p50, p99


@contextlib.contextmanager
def process(argv, port, log, **more):
    child = tools.spawn(argv, log=log, **more)
    try:
        tools.wait_for(log, lambda: child.poll() is not None or tools.port_answers(port), 30)
        if child.poll() is not None:
            raise RuntimeError(f"{log} ended at once; see build/bench/log/{log}.log")
        yield
    finally:
        tools.end(child)


def start_proxy(stack):
    port = tools.free_port()
    argv = [tools.compiled("proxy", "libevent"), port, tools.PYTHON, tools.HERE / "proxy_child.py"]
    stack.enter_context(process(argv, port, "proxy"))
    return f"http://127.0.0.1:{port}/"


def start_framework(stack):
    port = tools.free_port()
    argv = [tools.venv() / "functions-framework", "--source", "ff_echo.py", "--target", "echo", "--host", "127.0.0.1", "--port",
            port]
    stack.enter_context(process(argv, port, "functions-framework", cwd=tools.HERE,
                                env={"PATH": tools.PLAIN_PATH, "HOME": "/tmp", "WORKERS": "2"}))
    return f"http://127.0.0.1:{port}/"


def start_weir(stack):
    weir = stack.enter_context(Weir())
    weir.deploy("echo", "echo", maxInstances=2)
    for _ in range(50):
        weir.invoke("echo", payload(1))
    return f"http://127.0.0.1:{weir.port}/v1/functions/echo/invocations"


def measure(urls, rounds, seconds):
    found = {(name, c): [] for name in urls for c in CONNECTIONS}
    for url in urls.values():
        load(url, 32, 1)
    for _ in range(rounds):
        for c in CONNECTIONS:
            for name, url in urls.items():
                found[name, c].append(load(url, c, seconds))
            tools.say(f"  {c} connections: " + ", ".join(
                "%s %s/s %.0f µs" % (name, f"{found[name, c][-1][0]:,.0f}", found[name, c][-1][1]) for name in urls))
    return {key: [tools.median(column) for column in zip(*samples)] for key, samples in found.items()}


def run(quick):
    rounds, seconds = (2, 2) if quick else (3, 5)
    notes, urls = [], {}
    with contextlib.ExitStack() as stack:
        urls["weir"] = start_weir(stack)
        urls["proxy"] = start_proxy(stack)
        try:
            urls["functions-framework"] = start_framework(stack)
        except tools.Missing as e:
            notes.append(f"functions-framework was left out: {e}")
        figures = measure(urls, rounds, seconds)
    get = lambda name, c, i: figures[name, c][i] if (name, c) in figures else None  # noqa: E731
    title = {"weir": "weir", "proxy": "smallest proxy (`bench/proxy.c`)", "functions-framework": "functions-framework (gunicorn)"}
    return {
        "title": "Sync calls over HTTP",
        "how": "A Python handler that returns its event; 256 bytes of JSON; two instances, child processes or workers; wrk with "
               f"one thread, {seconds} s a point. Median of {rounds} rounds.",
        "columns": ["", *[f"{c} conn: req/s" for c in CONNECTIONS], *[f"{c} conn: median µs" for c in CONNECTIONS],
                    *[f"{c} conn: p99 µs" for c in CONNECTIONS]],
        "rows": [[title[name], *[get(name, c, i) for i in range(3) for c in CONNECTIONS]] for name in urls],
        "aims": [
            aim("requests/s at 32 connections, weir / proxy", ratio(get("weir", 32, 0), get("proxy", 32, 0)), 0.7, " x"),
            aim("requests/s at 32 connections, weir / functions-framework",
                ratio(get("weir", 32, 0), get("functions-framework", 32, 0)), 5, " x"),
            aim("median latency at 1 connection, weir / proxy", ratio(get("weir", 1, 1), get("proxy", 1, 1)), 1.3, " x", most=True),
        ],
        "notes": notes,
    }
