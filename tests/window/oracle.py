"""What each minute of a year is in windows, by other means than the suite's.

The windows are the lines of standard input, the zones the arguments behind the
first instant (seconds) and a number of minutes. Prints for each zone and window
the runs of equal minutes as FLOW:MINUTES: bytes a second, free or closed.
"""

import re
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SPAN = re.compile(r"(?:([a-z,\- ]+?) +)?(\d\d):(\d\d)-(\d\d):(\d\d)(?:=(\w+)(?:/s)?)?(?:, *|$)", re.I)
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kbit": 125, "mbit": 125000, "gbit": 125000000}


def days(text):
    """The numbers of the days that a list of names is."""
    chosen = set()
    for name in text.lower().replace(" ", "").split(","):
        name = {"weekday": "mon-fri", "weekend": "sat-sun"}.get(name, name)
        first, _, last = name.partition("-")
        day = DAYS.index(first)
        chosen.add(day)
        while DAYS[day] != (last or first):
            day = (day + 1) % 7
            chosen.add(day)
    return chosen


def rate(text):
    number, unit = re.fullmatch(r"(\d+)([a-z]*)", text.lower()).groups()
    return str(int(number) * UNITS[unit])


def spans(text):
    """The spans of a window: days, first and last minute, flow."""
    at = 0
    while at < len(text):
        span = SPAN.match(text, at)
        names, h1, m1, h2, m2, limit = span.groups()
        yield (
            days(names) if names else set(range(7)),
            int(h1) * 60 + int(m1),
            int(h2) * 60 + int(m2),
            rate(limit) if limit else "free",
        )
        at = span.end()


def flow(window, day, minute):
    """By asking each span whether this is in today's, or in yesterday's."""
    for chosen, opens, closes, found in reversed(window):
        past = closes < opens
        if day in chosen and opens <= minute and (past or minute < closes):
            return found
        if past and (day - 1) % 7 in chosen and minute < closes:
            return found
    return "closed"


def main():
    start, minutes, zones = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    windows = sys.stdin.read().splitlines()
    for name in zones:
        zone = ZoneInfo(name)
        wall = [datetime.fromtimestamp(start + 60 * n, zone) for n in range(minutes)]
        wall = [at.weekday() * 1440 + at.hour * 60 + at.minute for at in wall]
        for text in windows:
            window = list(spans(text))
            week = [flow(window, of // 1440, of % 1440) for of in range(7 * 1440)]
            kinds = sorted(set(week))
            week = [kinds.index(found) for found in week]
            year = bytes(map(week.__getitem__, wall))
            runs = re.finditer(rb"(.)\1*", year, re.S)
            print(name, text, " ".join(f"{kinds[r[0][0]]}:{len(r[0])}" for r in runs), sep="\t")


main()
