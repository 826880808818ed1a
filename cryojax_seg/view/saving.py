"""Writes in the background what changed, and tells whether it is on disk."""

import dataclasses
import threading
import time
from collections.abc import Callable

_LONGEST_PAUSE = 20.0  # seconds between two writes
_AGAIN = 10.0  # seconds after which a write that failed is tried again


@dataclasses.dataclass(frozen=True)
class Saved:
    """Tells how much of what was requested is on disk.

    Two numbers say more than one truth value, since a page may hear of a change after it has heard
    that the change is on disk.

    Attributes:
        requested: number of writes that were requested.
        written: number of these that are on disk.
        problem: why the last write failed; empty if it did not.
    """

    requested: int = 0
    written: int = 0
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Return whether nothing is left to be written."""
        return self.requested == self.written


class Saver:
    """Calls a function in a thread of its own after each request, and again where that failed.

    Requests that come while it writes are served together by one more write, which begins after a
    pause as long as the write took, so that labels of gigabytes do not keep the disk busy all the
    time. What could not be written stays in memory, and is tried again after ten seconds and with
    the next request.

    Args:
        write: writes everything; an OSError or ValueError says why it could not.
        told: called with `Saved` after each attempt, in that thread.

    >>> written = []
    >>> saver = Saver(lambda: written.append("all"))
    >>> saver.request()
    >>> saver.close().complete, written
    (True, ['all'])
    """

    def __init__(self, write: Callable[[], None], told: Callable[[Saved], None] | None = None):
        self._write, self._told = write, told or (lambda saved: None)
        self._wanted = self._served = 0
        self._problem, self._closed = "", False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="cryojax-seg saving", daemon=True)
        self._thread.start()

    @property
    def state(self) -> Saved:
        """Return how much of what was requested is on disk."""
        with self._changed:
            return Saved(self._wanted, self._served, self._problem)

    def request(self) -> None:
        """Ask for everything to be written; return at once."""
        with self._changed:
            self._wanted += 1
            self._problem = ""
            self._changed.notify_all()

    def close(self) -> Saved:
        """Write what is left, end the thread, and return whether all of it is on disk."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        return self.state

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._wanted == self._served and not self._closed:
                    self._changed.wait()
                if self._problem and not self._closed:
                    self._changed.wait(_AGAIN)
                wanted, closed = self._wanted, self._closed
                if wanted == self._served:
                    return
            began = time.monotonic()
            try:
                self._write()
                problem = ""
            except (OSError, ValueError) as error:
                problem = str(error)
            with self._changed:
                self._problem = problem
                if not problem:
                    self._served = wanted
                closed = closed and (bool(problem) or self._wanted == self._served)
                state = Saved(self._wanted, self._served, problem)
            self._told(state)
            if closed:
                return
            took = min(time.monotonic() - began, _LONGEST_PAUSE)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, took)
