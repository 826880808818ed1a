"""Signals as a question that a loop can ask, instead of an interruption anywhere."""

import os
import signal
import threading
from types import TracebackType
from typing import Any

from cryojax_seg.errors import ProcessError
from cryojax_seg.runtime import processes

_NAMES = ("SIGTERM", "SIGUSR1", "SIGINT")
_FAILED = 255  # above all signals: that one process cannot go on is said in the same way


class Interrupts:
    """While this context is open, the first SIGTERM, SIGUSR1 or SIGINT is only remembered.

    A second one has its usual effect at once. The handlers that were installed before come back
    when the context ends. Outside of the main thread, where Python allows no handlers, nothing is
    installed.

    Where several processes train, what one of them receives concerns all, and they must come to
    know of it at the same step. So all `ask` before every step, and read what was `agreed` after
    it was started: the devices work on the answer before the step, nobody waits for them, and it
    costs the exchange of one number.

    Attributes:
        received: the number of the first signal; None so far.

    >>> with Interrupts() as interrupts:
    ...     signal.raise_signal(signal.SIGUSR1)
    ...     interrupts.ask()
    ...     interrupts.agreed() == signal.SIGUSR1
    True
    """

    def __init__(self):
        self.received: int | None = None
        self._former = {}
        self._failure: Exception | None = None
        self._answer: Any = 0

    def ask(self, failure: Exception | None = None) -> None:
        """Begins to find out whether any process was interrupted, or has failed.

        Args:
            failure: why this process cannot go on.
        """
        self._failure = failure
        if processes.several():
            number = _FAILED if failure is not None else self.received or 0
            self._answer = processes.largest(number)

    def agreed(self) -> int | None:
        """The number of a signal that a process had received when all asked; None without one.

        A single process agrees with itself at once.

        Raises:
            Exception: the failure, in the process that has one; a ProcessError in the others.
        """
        if not processes.several():
            return self.received
        answer = int(self._answer)
        if answer == _FAILED:
            raise self._failure or ProcessError("another process failed; its messages say why")
        return answer or None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                if hasattr(signal, name):  # SIGUSR1 does not exist everywhere
                    number = getattr(signal, name)
                    self._former[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame) -> None:
        if self.received is None:
            self.received = number
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
