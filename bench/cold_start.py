# SPDX-License-Identifier: Apache-2.0
"""Part cold-start: the first result of a function that never ran, beside an interpreter that does nothing; and what a server
costs that has nothing to do.

"From nothing" is a server without spare instances: the request waits for the sandbox, the interpreter, the runtime and the
code. By default a started interpreter waits in its sandbox for the code.
"""
import os
import shutil
import time

import tools
from report import aim, ratio
from server import Weir

# As workers/sandbox.c fences an instance in.
FENCE = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--new-session", "--cap-drop", "ALL",
         "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--size", "536870912", "--tmpfs", "/tmp", "--chdir", "/tmp",
         "--"]
ENVIRONMENT = {"PATH": tools.PLAIN_PATH, "HOME": "/tmp", "LANG": "C.UTF-8"}
CODE = "# sample %d\ndef main_handler(event, context):\n    return event\n"


def start_and_end(argv):
    """Milliseconds from the start of a process to its end."""
    path = shutil.which(argv[0], path=tools.PLAIN_PATH)
    start = time.monotonic()
    pid = os.posix_spawn(path, argv, ENVIRONMENT)
    status = os.waitpid(pid, 0)[1]
    took = time.monotonic() - start
    if status:
        raise RuntimeError(f"{argv[0]} failed")
    return took * 1000


def first_result(weir, name):
    start = time.monotonic()
    weir.invoke(name)
    return (time.monotonic() - start) * 1000


def settle(weir):
    """Until the instances of the last call and of the deploy's check are there or gone, and the spare is ready."""
    time.sleep(0.4)


def run(quick):
    samples, rest_seconds = (6, 5) if quick else (15, 20)
    # FENCE uses `bwrap` of this machine only where weir does, too.
    plain, fenced, nothing, spare, warm = [], [], [], [], []
    # Idle instances are let go soon, so that a function's instances do not fill the node.
    with Weir("--spare-instances", "0", "--instance-idle", "200ms") as bare, Weir("--instance-idle", "200ms") as default:
        sandbox = default.call("GET", "/v1/status").get("sandbox")
        for weir in bare, default:
            weir.deploy_text("first", (CODE % -1).encode())
            weir.invoke("first")
        for n in range(samples):
            for weir, out in (bare, nothing), (default, spare):
                weir.deploy_text(f"cold-{n}", (CODE % n).encode())
                settle(weir)
                out.append(first_result(weir, f"cold-{n}"))
            warm.append(first_result(default, f"cold-{n}"))
            plain.append(start_and_end(["python3", "-c", "pass"]))
            if sandbox == "bubblewrap":
                fenced.append(start_and_end([*FENCE, "python3", "-c", "pass"]))
        tools.say(f"  first result {tools.median(nothing):.1f} ms from nothing, {tools.median(spare):.1f} ms with a spare; "
                  f"python3 -c pass {tools.median(plain):.1f} ms")
    with Weir() as weir:
        weir.deploy("echo", "echo")
        weir.invoke("echo")
        time.sleep(2)
        [(resident, share)] = tools.at_rest([weir.pid], rest_seconds)
    tools.say(f"  at rest {resident:.1f} MiB, {share:.3f} % of a core")
    interpreter = tools.median(plain)
    row = lambda name, values: [name, *([tools.median(values), min(values), max(values)] if values else [None] * 3)]  # noqa: E731
    return {
        "title": "Cold start, and a server at rest",
        "how": f"First result over HTTP of a function that was deployed and never invoked; {samples} functions, in turn with the "
               f"interpreter alone. Sandbox: {sandbox}.",
        "columns": ["", "median ms", "least", "most"],
        "rows": [row("weir, from nothing (`--spare-instances 0`)", nothing), row("weir, default (one spare instance)", spare),
                 row("weir, the second call", warm), row("`python3 -c pass`", plain),
                 row("the same in the same bubblewrap command", fenced),
                 ["server at rest: resident MiB", resident, None, None],
                 ["server at rest: per cent of a core", share, None, None]],
        "aims": [aim("first result by default / `python3 -c pass`", ratio(tools.median(spare), interpreter), 1.5, " x", most=True),
                 aim("first result from nothing / `python3 -c pass`", ratio(tools.median(nothing), interpreter), 1.5, " x",
                     most=True),
                 aim("resident memory at rest", resident, 20, " MiB", most=True),
                 aim("share of a core at rest", share, 0.1, " %", most=True)],
        "notes": [f"The server rested {rest_seconds} s after one call, its own process alone; an instance is a Python interpreter "
                  "besides."]
                 + ([f"From nothing against the interpreter in the same sandbox: "
                     f"{tools.median(nothing) / tools.median(fenced):.2f} x."] if fenced else []),
    }
