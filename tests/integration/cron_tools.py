# SPDX-License-Identifier: Apache-2.0
"""Cron expressions for comparisons: random ones, zones and instants, and who answers when an expression matches next.

Times are Unix seconds. Every random thing comes from the random.Random that is given, so that a run can be repeated.
"""
import datetime
import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile
import zlib
import zoneinfo

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SUPPORT = ROOT / "tests/support"
AREAS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
END = 4102444800  # 2100-01-01
HOUR = 3600

ZONES = sorted(name for name in zoneinfo.available_timezones() if name.split("/")[0] in AREAS) + ["UTC"]


def run(command, lines):
    done = subprocess.run([str(word) for word in command], input="".join(line + "\n" for line in lines), capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines), f"{len(answers)} answers to {len(lines)} lines"
    return answers


def ours(rows):
    """rows: (expression, zone, dst, after). For each the next five times as (time, mark), fewer when there are no more."""
    driver = pathlib.Path(os.environ["WEIR_BIN"]).parent / "tests/support/cron_driver"
    found = []
    for row, answer in zip(rows, run([driver], ["\t".join(map(str, row)) for row in rows])):
        assert not answer.startswith("error"), f"{row}: {answer}"
        found.append([tuple(map(int, word.split("/"))) for word in answer.split() if word != "never"])
    return found


# ---- Quartz ----------------------------------------------------------------------------------------------------------------


def quartz_jars():
    """The folder of Quartz' jars: fetched once by Maven, beside Kafka's, and named after what was asked for."""
    pom = SUPPORT / "quartz-pom.xml"
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "weir-tests"
    jars = cache / f"quartz-{zlib.crc32(pom.read_bytes()):08x}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            fresh = tempfile.mkdtemp(prefix="new.", dir=cache)
            try:
                subprocess.run(["mvn", "-q", "-B", "-C", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
                                f"-DoutputDirectory={fresh}"], check=True, capture_output=True, timeout=300)
                os.rename(fresh, jars)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return jars


def quartz(rows):
    """rows: (expression in Quartz' form, zone, [after…]). For each after (next time or None, the zone's offset at after
    as Java knows it, and at the next time). None for a zone that Java does not know."""
    lines = ["\t".join([expression, zone, *map(str, afters)]) for expression, zone, afters in rows]
    found = []
    for row, answer in zip(rows, run(["java", "-XX:TieredStopAtLevel=1", "-cp", f"{quartz_jars()}/*", SUPPORT / "QuartzDriver.java"], lines)):
        assert not answer.startswith("error"), f"{row}: {answer}"
        if answer == "unknown zone":
            found.append(None)
            continue
        words = [word.split("/") for word in answer.split()]
        found.append([(None if time == "never" else int(time), int(before), int(then)) for time, before, then in words])
    return found


# ---- zones -----------------------------------------------------------------------------------------------------------------


def local_time(zone, unix):
    return datetime.datetime.fromtimestamp(unix, zoneinfo.ZoneInfo(zone))


def offset_at(zone, unix):
    return int(local_time(zone, unix).utcoffset().total_seconds())


def unix_of(zone, naive, fold=0):
    """Of a local time; one that is missing is taken with the offset before (fold 0) or after the change."""
    return int(naive.replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=fold).timestamp())


def exists(zone, naive):
    return local_time(zone, unix_of(zone, naive)).replace(tzinfo=None, fold=0) == naive


def change_between(zone, low, high):
    """The instant at which the offset of low ends, when that of high is another."""
    before = offset_at(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset_at(zone, middle) == before else (low, middle)
    return high


def next_change(zone, unix):
    """The first change of the offset within two years, or None."""
    for low in range(unix, min(unix + 2 * 366 * 86400, END), 10 * 86400):
        if offset_at(zone, low) != offset_at(zone, low + 10 * 86400):
            return change_between(zone, low, low + 10 * 86400)
    return None


def changes_near(zone, unix):
    """Whether the offset changes within 3 hours, or by a day within two days."""
    offsets = [offset_at(zone, unix + hours * HOUR) for hours in (-3, 0, 3, -49, 49)]
    return len(set(offsets[:3])) > 1 or max(offsets) - min(offsets) > 12 * HOUR


# ---- random --------------------------------------------------------------------------------------------------------------

NAMES = {"month": "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), "weekday": "SUN MON TUE WED THU FRI SAT".split()}
RANGES = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6), "year": (1970, 2099)}


class Value:
    """A number of a field, which each reader may write in its own way."""

    def __init__(self, kind, number, by_name=False):
        self.kind, self.number, self.by_name = kind, number, by_name

    def __str__(self):
        return NAMES[self.kind][self.number - RANGES[self.kind][0]] if self.by_name else str(self.number)


def random_item(dice, kind):
    """A list of strings and Values: a a-b a-b/n */n a/n. Names have no steps: Quartz passes over these."""
    low, high = RANGES[kind]
    by_name = kind in NAMES and dice.random() < 0.3
    a = dice.randint(low, high)
    b = dice.randint(a, high)
    first, last, step = Value(kind, a, by_name), Value(kind, b, by_name), str(dice.randint(1, max(1, (high - low) // 2)))
    forms = [[first], [first], [first, "-", last], [first, "-", last, "/", step], ["*/", step], [first, "/", step]]
    return dice.choice(forms[:2] if by_name else forms)


def random_field(dice, kind, stars):
    """stars: how often the field is * alone."""
    if dice.random() < stars:
        return ["*"]
    parts = random_item(dice, kind)
    while dice.random() < 0.25:
        parts = parts + [","] + random_item(dice, kind)
    return parts


def write(parts, value=str):
    return "".join(value(part) if isinstance(part, Value) else part for part in parts)


def random_after(dice, zone, before_change):
    """Any second, or one less than a day before a change of the offset when there is one."""
    after = dice.randrange(0, END)
    change = next_change(zone, after) if before_change else None
    return max(0, change - dice.randrange(0, 86400)) if change else after
