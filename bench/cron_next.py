# SPDX-License-Identifier: Apache-2.0
"""As bench/cron_next.c, with croniter:

    python3 cron_next.py ZONE START COUNT EXPRESSION…    prints "NANOSECONDS LAST" a line

croniter takes the seconds last: an expression of 6 fields is turned round.
"""
import datetime
import sys
import time
import zoneinfo

from croniter import croniter


def turned(expression):
    fields = expression.split()
    return " ".join(fields if len(fields) == 5 else fields[1:6] + fields[:1])


def chain(expression, start, count):
    times = croniter(turned(expression), start)
    last = 0
    begin = time.perf_counter_ns()
    for _ in range(count):
        last = times.get_next()
    return (time.perf_counter_ns() - begin) / count, last


def main():
    zone, start, count = zoneinfo.ZoneInfo(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for expression in sys.argv[4:]:
        ns, last = sorted(chain(expression, datetime.datetime.fromtimestamp(start, zone), count) for _ in range(3))[1]
        print(f"{ns:.1f} {last:.0f}")


main()
