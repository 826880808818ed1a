"""Estimates the time left, in words."""

import time
from collections.abc import Callable


def duration(seconds: float | int) -> str:
    """Return a length of time as a person would say it.

    >>> [duration(s) for s in (3.2, 71, 725, 4790, 200_000)]
    ['3 s', '71 s', '12 min', '1 h 20 min', '2 d 7 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {rest} min"
    return f"{hours // 24} d {hours % 24} h"


class Remaining:
    """Estimates the time that is left from the rate of all steps but the first.

    The first step compiles what the others run, so it says nothing about them.

    Args:
        total: how many steps there are; None while that is not known.
        clock: gives the time in seconds.

    >>> times = iter([60.0, 62.0, 64.0])  # the first of four steps took a minute
    >>> left = Remaining(4, lambda: next(times))
    >>> [left(done) for done in (1, 2, 3)]
    ['', 'about 4 s left', 'about 2 s left']
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic):
        self.total = total
        self._clock = clock
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int) -> str:
        """Say what is left after so many steps; nothing where that is not known."""
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
        began, first = self._first
        if self.total is None or not first < done < self.total:
            return ""
        return f"about {duration((now - began) / (done - first) * (self.total - done))} left"
