# SPDX-License-Identifier: Apache-2.0
"""The times of cron expressions against three others who know them.

croniter (Python) and Quartz (Java): 10,000 random expressions each, in random zones, from random instants on, each fifth of them
one for every day less than a day before a change of the offset. They are asked for one step at a time, from where we are, so that one difference
is not counted five times. What differs by another rule is told by a predicate of its own, the classes below, and counted; what no
class explains fails. `pytest -s` shows the counts. The third one is a loop over the days of a year with zoneinfo, in 50 zones.
"""
import collections
import datetime
import multiprocessing
import random

import croniter
import cron_tools as tools
import pytest
from cron_tools import Value, write

EXPRESSIONS = 10000
SAME_SHARE = 0.98  # of all answers, at least
PLAIN, GAP_END, FIRST, SECOND = range(4)


class Step:
    """One question and both answers; times are None when there is none."""

    def __init__(self, fields, zone, after, ours, mark, theirs):
        self.fields, self.zone, self.after, self.ours, self.mark, self.theirs = fields, zone, after, ours, mark, theirs

    def local(self, unix):
        return tools.local_time(self.zone, unix).replace(tzinfo=None, fold=0)

    def __str__(self):
        times = [unix if unix is None else tools.local_time(self.zone, unix).isoformat() for unix in (self.after, self.ours, self.theirs)]
        return f'"{" ".join(map(write, self.fields))}" in {self.zone} after {times[0]}: {times[1]}, theirs {times[2]}'


def cases_of(dice, make):
    """(fields, zone, the five instants to ask from, our five answers)."""
    cases = []
    for number in range(EXPRESSIONS):
        zone, at_change = dice.choice(tools.ZONES), number % 5 == 0
        cases.append((make(dice, at_change), zone, tools.random_after(dice, zone, at_change)))
    found = tools.ours([(" ".join(map(write, fields)), zone, "cron", after) for fields, zone, after in cases])
    for (fields, zone, after), times in zip(cases, found):
        yield fields, zone, [after] + [time for time, _ in times[:4]], (times + [(None, PLAIN)])[:5]


def count(title, steps, classes):
    """Prints how many answers are the same, and how many of each class; fails for what is of none."""
    counts, unexplained = collections.Counter(), []
    for step in steps:
        name = "the same" if step.ours == step.theirs else next((name for name, holds in classes.items() if holds(step)), None)
        counts[name] += 1
        if name is None:
            unexplained.append(str(step))
    total = sum(counts.values())
    print(f"\n{title}: {total} answers to {EXPRESSIONS} expressions")
    for name, number in counts.most_common():
        print(f"  {number:6} {100 * number / total:7.3f} %  {name or 'UNEXPLAINED'}")
    assert not unexplained, "\n".join(unexplained[:20])
    assert counts["the same"] >= SAME_SHARE * total
    return counts


def past_the_end(step):
    return step.ours is None and step.theirs is not None and step.local(step.theirs).year > 2099


def restricted(field):
    return write(field) not in ("*", "?")


# ---- croniter --------------------------------------------------------------------------------------------------------------
# It is asked without a zone, from our local time on: with one, it adds an hour to times beyond a change of the offset unless the
# zone is pytz's, which ends in 2037. Its answer is taken to the zone by zoneinfo.


def croniter_fields(dice, daily):
    """minute hour day month weekday, and a second in front of every other one. It wants nL and n#k without another day."""
    day, weekday = tools.random_field(dice, "day", 0.5), tools.random_field(dice, "weekday", 0.5)
    form = dice.random()
    if form < 0.05:
        day = ["L"]
    elif form < 0.2:
        day, weekday = ["*"], [Value("weekday", dice.randint(0, 6))] + dice.choice([["L"], ["#", str(dice.randint(1, 5))]])
    days = [["*"]] * 3 if daily else [day, tools.random_field(dice, "month", 0.6), weekday]
    fields = [tools.random_field(dice, "minute", 0.3), tools.random_field(dice, "hour", 0.4), *days]
    if dice.random() < 0.5:
        fields.insert(0, tools.random_field(dice, "second", 0.2) if dice.random() < 0.5 else [str(dice.randint(0, 59))])
    return fields


def croniter_text(fields):
    """The second comes last, and the last Friday is L5."""
    words = [write(field) for field in fields]
    if fields[-1][1:] == ["L"]:
        words[-1] = f"L{fields[-1][0]}"
    return " ".join(words[1:] + words[:1] if len(words) == 6 else words)


def either_day(fields):
    """Not so in five fields of which day or weekday begins with a star: our rule, which croniter leaves to its caller."""
    return len(fields) == 6 or "*" not in (write(fields[-3])[0], write(fields[-1])[0])


def ask_croniter(question):
    text, either, naives = question
    answers = []
    for naive in naives:
        try:
            answers.append(croniter.croniter(text, naive, day_or=either).get_next(datetime.datetime))
        except croniter.CroniterBadDateError:
            answers.append(None)
    return answers


def croniter_steps(dice):
    cases = list(cases_of(dice, croniter_fields))
    questions = [(croniter_text(fields), either_day(fields), [tools.local_time(zone, unix).replace(tzinfo=None, fold=0) for unix in afters])
                 for fields, zone, afters, _ in cases]
    with multiprocessing.Pool() as pool:
        answers = pool.map(ask_croniter, questions, chunksize=50)
    for (fields, zone, afters, times), naives in zip(cases, answers):
        for after, (ours, mark), naive in zip(afters, times, naives):
            step = Step(fields, zone, after, ours, mark, naive and tools.unix_of(zone, naive))
            step.naive = naive
            yield step


def steps_to_7(step):
    """A weekday a/n whose last step is 7: Sunday there, past the end here."""
    field = step.fields[-1]
    starts = [i for i, part in enumerate(field) if isinstance(part, Value) and field[i + 1:i + 2] == ["/"] and field[i - 1:i] != ["-"]]
    return any((7 - field[i].number) % int(field[i + 2]) == 0 for i in starts)


def values_of(field, low, high):
    values = set()
    for item in write(field, lambda value: str(value.number)).replace("L", str(high)).split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            first, last = low, high
        elif not dash:
            last = high if step else first
        values |= set(range(int(first), int(last) + 1, int(step or 1)))
    return values


def every_value_written_out(step):
    """0-6 restricts here and is * there; a list with */1 is * here and restricts there."""
    day, weekday = step.fields[-3], step.fields[-1]
    if not (restricted(day) and restricted(weekday)):
        return False
    return len(values_of(day, 1, 31)) == 31 or len(values_of(weekday, 0, 6)) == 7


def day_that_never_comes(step):
    """Day and weekday where no month has such a day (31 JUN): it gives up, while the weekday alone would match."""
    return step.naive is None and restricted(step.fields[-3]) and restricted(step.fields[-1])


def from_february(step):
    """Leaving a February, it counts to the next of some days as if that month was longer, and passes over the first of March."""
    if step.ours is None or not step.ours < (step.theirs or tools.END):
        return False
    return restricted(step.fields[-3]) and (step.local(step.after).month, step.local(step.ours).month) == (2, 3)


def local_only(step):
    """It knows no change of the offset: its time is missing there, or the question or our answer is of a time that comes twice."""
    if step.naive is None or not any(tools.changes_near(step.zone, unix) for unix in (step.after, step.ours or 0, step.theirs)):
        return False
    return not tools.exists(step.zone, step.naive) or step.mark in (GAP_END, SECOND)


def test_croniter():
    count("croniter", croniter_steps(random.Random(20260101)), {
        "after 2099": past_the_end,
        "weekday a/n ends with 6 here, with 7 there": steps_to_7,
        "all values written out: restricts only one of both": every_value_written_out,
        "croniter gives up at a day that no month has": day_that_never_comes,
        "croniter passes over the first days of March": from_february,
        "daylight saving, which it was not asked for": local_only,
    })


# ---- Quartz ----------------------------------------------------------------------------------------------------------------


def quartz_fields(dice, daily):
    """second minute hour day month weekday, and sometimes a year. One of day and weekday is ?."""
    number, by_name = dice.randint(0, 6), dice.random() < 0.5
    day, weekday = ["?"], ["?"]
    if dice.random() < 0.35:
        special = [[Value("weekday", number, by_name), "L"], [Value("weekday", number, by_name), "#", str(dice.randint(1, 5))]]
        weekday = dice.choice([tools.random_field(dice, "weekday", 0.2) for _ in range(3)] + special)
    else:
        special = [["L"], ["LW"], [f"L-{dice.randint(0, 30)}"], [f"{dice.randint(1, 31)}W"]]
        day = dice.choice([tools.random_field(dice, "day", 0.4) for _ in range(4)] + special)
    second = tools.random_field(dice, "second", 0.1) if dice.random() < 0.3 else [str(dice.randint(0, 59))]
    year = [tools.random_field(dice, "year", 0.3)] if dice.random() < 0.4 else []
    days = [["*"], ["*"], ["?"]] if daily else [day, tools.random_field(dice, "month", 0.6), weekday, *year]
    return [second, tools.random_field(dice, "minute", 0.3), tools.random_field(dice, "hour", 0.4), *days]


def quartz_text(fields):
    """Its weekdays are 1 to 7 from Sunday."""
    return " ".join(write(field, lambda v: str(v.number + 1) if v.kind == "weekday" and not v.by_name else str(v)) for field in fields)


def quartz_steps(dice):
    cases = list(cases_of(dice, quartz_fields))
    answers = tools.quartz([(quartz_text(fields), zone, afters) for fields, zone, afters, _ in cases])
    unknown = {zone for (_, zone, _, _), answer in zip(cases, answers) if answer is None}
    assert len(unknown) <= 5, f"zones that Java does not know: {unknown}"
    for (fields, zone, afters, times), answer in zip(cases, answers):
        for after, (ours, mark), (theirs, before, then) in zip(afters, times, answer or []):
            step = Step(fields, zone, after, ours, mark, theirs)
            step.offsets = before, then
            yield step


def other_zone_data(step):
    """Java brings its own zone data."""
    then = step.after if step.theirs is None else step.theirs
    return step.offsets != (tools.offset_at(step.zone, step.after), tools.offset_at(step.zone, then))


def nearest_to_no_day(step):
    """31W in a month of 30 days: there the nearest to the last day, here none."""
    day = write(step.fields[3])
    if not day.endswith("W") or day == "LW" or step.theirs is None:
        return False
    last = (step.local(step.theirs).replace(day=28) + datetime.timedelta(4)).replace(day=1) - datetime.timedelta(1)
    return int(day[:-1]) > last.day


def later(step):
    return step.ours is not None and (step.theirs is None or step.theirs > step.ours)


def day_after_a_gap(step):
    """A gap that ends at midnight (Nuuk): it passes over the day that begins there."""
    if step.mark != PLAIN or not later(step) or tools.offset_at(step.zone, step.after) >= tools.offset_at(step.zone, step.ours):
        return False
    end = step.local(tools.change_between(step.zone, step.after, step.ours))
    return (end.hour, end.minute) == (0, 0) and end.date() == step.local(step.ours).date()


def test_quartz():
    count("Quartz", quartz_steps(random.Random(20260102)), {
        "after 2099": past_the_end,
        "Java has other zone data": other_zone_data,
        "nW of a month without the day n": nearest_to_no_day,
        "a time that is missing: at the gap's end here, the next match there": lambda step: step.mark == GAP_END and later(step),
        "a time that comes twice: the first here, the second there": lambda step: step.mark == FIRST and later(step),
        "a time that comes twice: both here, one there": lambda step: step.mark == SECOND and later(step),
        "Quartz passes over the day after a gap that ends at midnight": day_after_a_gap,
    })


# ---- a year, day by day ----------------------------------------------------------------------------------------------------

FIFTY = """Europe/Berlin Europe/London Europe/Lisbon Europe/Dublin Europe/Athens Europe/Kyiv Europe/Chisinau Europe/Istanbul Europe/Moscow
Atlantic/Azores Atlantic/Reykjavik America/New_York America/Chicago America/Denver America/Phoenix America/Los_Angeles
America/Anchorage America/Adak America/Halifax America/St_Johns America/Havana America/Mexico_City America/Tijuana America/Bogota
America/Caracas America/Sao_Paulo America/Argentina/Buenos_Aires America/Santiago America/Asuncion America/Nuuk America/Scoresbysund
America/Miquelon Africa/Cairo Africa/Casablanca Africa/Lagos Africa/Johannesburg Asia/Beirut Asia/Gaza Asia/Jerusalem Asia/Tehran
Asia/Kolkata Asia/Kathmandu Asia/Shanghai Asia/Tokyo Australia/Sydney Australia/Adelaide Australia/Lord_Howe Pacific/Chatham
Pacific/Auckland Antarctica/Troll""".split()


def walked(zone, year, hour, minute, dst):
    """A fixed local time on every day of the year: where it is missing at the change's end, where it comes twice by the mode."""
    times = []
    day = datetime.datetime(year, 1, 1, hour, minute)
    while day.year == year:
        first, second = tools.unix_of(zone, day), tools.unix_of(zone, day, fold=1)
        if not tools.exists(zone, day):  # then the second is taken with the offset after the change, and is the earlier one
            times += [] if dst == "skip" else [tools.change_between(zone, second, first)]
        else:
            times += [first, second] if dst == "both" and second != first else [first]
        day += datetime.timedelta(1)
    return times


@pytest.mark.parametrize("hour, minute", [(2, 30), (1, 30), (0, 30)])
def test_a_year_in_fifty_zones(hour, minute):
    modes = ["cron", "skip", "once", "both"]
    wanted = {(zone, year, dst): walked(zone, year, hour, minute, dst) for zone in FIFTY + ["Pacific/Apia"] for year in (2011, 2026) for dst in modes}
    found = {key: [] for key in wanted}
    asked = {key: tools.unix_of(key[0], datetime.datetime(key[1], 1, 1)) - 1 for key in wanted}
    while asked:  # all at once, five more of each
        answers = tools.ours([(f"0 {minute} {hour} * * * *", zone, dst, after) for (zone, _, dst), after in asked.items()])
        for key, times in zip(list(asked), answers):
            found[key] += [time for time, _ in times]
            asked[key] = times[-1][0]
            if len(found[key]) > len(wanted[key]):
                del asked[key]
    assert len(FIFTY) == 50
    assert {key: times[:len(wanted[key])] for key, times in found.items()} == wanted
    changed = sum(len({tools.offset_at(zone, time) for time in times}) > 1 for (zone, _, dst), times in wanted.items() if dst == "cron")
    assert changed > 50
