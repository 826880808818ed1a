"""Ctrl-C and SIGTERM end a process within seconds, even in the middle of a compiled program."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 8.0  # to end in good order, before the process is ended in any case
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: so that what is half-written is removed on the way out."""


def leave(status: int) -> None:
    """End this process at once, after an interruption.

    Python's own end waits for what compiled programs still compute, and may crash then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def bounded(message: Callable[[str], str], goes_on: bool) -> Iterator[None]:
    """Make SIGTERM an exception, and end a process that a signal cannot stop otherwise.

    Python calls the handler of a signal only between two of its own steps: compiling a program, or
    running one, may take minutes. So a thread learns of the signal at the same time, and ends the
    process some seconds later if it still runs then. What was published is whole at any moment.

    Args:
        message: gives the last line that is printed, for the word "interrupted" or "terminated";
            asked only if the context was not left in time.
        goes_on: whether the process does other things after this context.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise Terminated

    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    said, over = threading.Event(), threading.Event()
    threading.Thread(target=_watch, args=(ears, said, over, message), daemon=True).start()
    wakeup = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        said.set()
        if goes_on:  # else what still runs may hold up the end of the process
            over.set()
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGTERM, former)
            mouth.close()


def _watch(
    ears: socket.socket, said: threading.Event, over: threading.Event, message: Callable[[str], str]
) -> None:
    """Waits for a signal, and then for the end of the process, but not for ever."""
    with ears:
        number = 0
        while number not in _WORDS:
            received = ears.recv(1)
            if not received:
                return
            number = received[0]
        if over.wait(SECONDS):
            return
        if not said.is_set():
            line = message(_WORDS[signal.Signals(number)])
            os.write(2, f"{line}\n".encode())  # print might wait for a lock of the main thread
        os._exit(128 + number)
