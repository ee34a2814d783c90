# SPDX-License-Identifier: Apache-2.0
"""Results as data (build/bench.json) and as a page (bench/RESULTS.md).

A part hands back {"title", "how", "columns", "rows", "aims", "notes"}, and may have "more" tables, each [how, columns, rows].
Parts that did not run this time keep what build/bench.json has of them, each with its own date.
"""
import json
import time

import tools

DATA = tools.ROOT / "build" / "bench.json"
PAGE = tools.HERE / "RESULTS.md"
ORDER = ["async-embedded", "async-amqp", "sync-http", "cold-start", "letters", "kafka", "kafka-wait", "kafka-memory",
         "amqp-trigger", "timers", "dlq"]


def number(value):
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 1 else f"{value:.2f}"


def aim(what, value, limit, unit="", most=False):
    """A figure and its aim: at least `limit`, or at most with most=True. None: it could not be measured."""
    met = None if value is None else (value <= limit if most else value >= limit)
    return {"what": what, "value": value, "limit": limit, "unit": unit, "most": most, "met": met}


def ratio(a, b):
    return a / b if a is not None and b else None


def verdict(a):
    if a["met"] is None:
        return "not measured"
    if a["met"]:
        return "met"
    far = a["value"] / a["limit"]
    return f"missed: {far:.2f} times the limit" if a["most"] else f"missed: {far:.0%} of the aim"


def aim_line(a):
    sign = "≤" if a["most"] else "≥"
    return f"{a['what']}: {number(a['value'])}{a['unit']} (aim {sign} {number(a['limit'])}{a['unit']}): {verdict(a)}"


def _table(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|--:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(number(cell) for cell in row) + " |" for row in rows]
    return lines


def _part(part):
    lines = [f"## {part['title']}", "", part["how"], "", f"Measured {part['measured']}"
             + (" with `--quick`: too short for conclusions." if part["quick"] else "."), ""]
    lines += _table(part["columns"], part["rows"]) + [""]
    for what, columns, rows in part.get("more", []):
        lines += [what, "", *_table(columns, rows), ""]
    if part["aims"]:
        cells = [[a["what"], f"{number(a['value'])}{a['unit']}",
                  f"{'at most' if a['most'] else 'at least'} {number(a['limit'])}{a['unit']}", verdict(a)] for a in part["aims"]]
        lines += _table(["aim", "figure", "wanted", ""], cells) + [""]
    lines += [f"- {note}" for note in part["notes"]]
    return lines + ([""] if part["notes"] else [])


def load():
    try:
        return json.loads(DATA.read_text())
    except (OSError, ValueError):
        return {"parts": {}}


def save(machine, parts, quick):
    """parts: name -> result of those that ran now."""
    data = load()
    data["machine"] = machine
    for name, part in parts.items():
        stamp = {"measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "commit": machine["commit"], "quick": quick}
        data["parts"][name] = {**part, **stamp}
    DATA.parent.mkdir(exist_ok=True)
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    lines = ["<!-- SPDX-License-Identifier: Apache-2.0 -->", "# Benchmark results", "",
             "Written by `make bench`; what the figures mean and what they do not: [docs/benchmarks.md](../docs/benchmarks.md).", "",
             *_table(["machine", ""], [[k, str(v)] for k, v in machine.items()]), ""]
    for name in ORDER:
        if name in data["parts"]:
            lines += _part(data["parts"][name])
    PAGE.write_text("\n".join(lines).rstrip() + "\n")
