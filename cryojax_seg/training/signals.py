"""Signals as a question the training loop can ask, instead of an interruption anywhere."""

import os
import signal
import threading
from types import TracebackType

_NAMES = ("SIGTERM", "SIGUSR1", "SIGINT")


class Interrupts:
    """While this context is open, the first SIGTERM, SIGUSR1 or SIGINT is only remembered.

    A second one has its usual effect at once. The handlers that were installed before come back
    when the context ends. Outside of the main thread, where Python allows no handlers, nothing is
    installed.

    Attributes:
        received: the number of the first signal; None so far.
    """

    def __init__(self):
        self.received: int | None = None
        self._former = {}

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
