#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""zone_spans.py FILE: compares the spans of time zones with what Python's zoneinfo says; exit code 1 at a difference.

FILE has a line for each span: name, begin (Unix seconds), offset, abbreviation. All zones that Python knows must be in it. Looked at are
the first second of each span, the one before, and one at random in each 20 days of 1970 to 2099. The folder comes from PYTHONTZPATH.
"""
import bisect
import collections
import datetime
import hashlib
import pathlib
import random
import sys
import zoneinfo

END = 4102444800
STEP = 20 * 86400


def read_spans(path):
    zones = collections.defaultdict(list)
    for line in pathlib.Path(path).read_text().splitlines():
        name, begin, offset, abbreviation = line.split(" ")
        zones[name].append((int(begin), datetime.timedelta(seconds=int(offset)), abbreviation))
    return zones


def moments(spans, chance):
    for begin, _, _ in spans[1:]:
        yield from (begin - 1, begin)
    for start in range(0, END, STEP):
        yield start + chance.randrange(STEP)


def difference(name, spans, chance):
    zone = zoneinfo.ZoneInfo(name)
    begins = [begin for begin, _, _ in spans]
    for moment in moments(spans, chance):
        if not 0 <= moment < END:
            continue
        _, offset, abbreviation = spans[bisect.bisect_right(begins, moment) - 1]
        there = datetime.datetime.fromtimestamp(moment, zone)
        if (there.utcoffset(), there.tzname()) != (offset, abbreviation):
            return f"{name} at {moment}: {offset} {abbreviation}, Python says {there.utcoffset()} {there.tzname()}"
    return None


def main(path):
    zones = read_spans(path)
    wrong = [f"{name}: not in the list" for name in sorted(zoneinfo.available_timezones() - zones.keys())]
    folder, seen, chance = pathlib.Path(zoneinfo.TZPATH[0]), set(), random.Random(5)
    for name, spans in sorted(zones.items()):
        same = hashlib.sha256((folder / name).read_bytes()).digest(), tuple(spans)  # a zone of two names is looked at once
        if same in seen:
            continue
        seen.add(same)
        if found := difference(name, spans, chance):
            wrong.append(found)
    for line in wrong[:20]:
        print(f"# {line}")
    print(f"# {len(zones)} zones, {len(seen)} of them different, {len(wrong)} wrong")
    return 1 if wrong or len(seen) < 200 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
