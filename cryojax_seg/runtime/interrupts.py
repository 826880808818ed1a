"""Lets a loop ask for signals between its steps, instead of being interrupted anywhere."""

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
    """Records the first SIGTERM, SIGUSR1 or SIGINT while this context is open.

    It has no other effect.

    A second signal has its usual effect at once. The previous handlers are restored when the
    context ends. Outside the main thread, where Python allows no handlers, nothing is installed.

    If several processes train, a signal to one of them ends all, and all must know of it at the
    same step. So all processes call `ask` before every step, and read `agreed` after the step was
    started: the devices exchange one number before the step, and no process waits for them.

    Attributes:
        received: the number of the first signal; None without one.

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
        """Start to exchange whether any process was interrupted or has failed.

        Args:
            failure: the error that stops this process; None without one.
        """
        self._failure = failure
        if processes.several():
            number = _FAILED if failure is not None else self.received or 0
            self._answer = processes.largest(number)

    def agreed(self) -> int | None:
        """Return the number of a signal that any process had received when all asked, if any.

        A single process returns its own at once.

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
