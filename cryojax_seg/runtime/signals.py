"""Ends a process within seconds of Ctrl-C or SIGTERM, even in the middle of a compiled program."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

SECONDS = 8.0  # to end in good order, before the process is ended in any case
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """Reports SIGTERM as an exception, so that incomplete files are removed when it propagates."""


class Ended(KeyboardInterrupt):
    """Reports that a command which runs until Ctrl-C has ended well, by Ctrl-C."""


def leave(status: int) -> NoReturn:
    """End this process at once.

    Python's own exit takes long after JAX has run. After an interruption it waits for compiled
    programs that still run, and may crash then.
    """
    with contextlib.suppress(BrokenPipeError):  # the reader of a pipe has had enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def bounded(message: Callable[[str], str], continues: bool) -> Iterator[None]:
    """Make SIGTERM an exception, and end a process that does not react to a signal in time.

    Python calls a signal handler only between two of its own instructions, and compiling or running
    a program may take minutes. So a thread receives the signal too, and ends the process some
    seconds later if it still runs. Published files are complete at any moment.

    Args:
        message: returns the last line to print, for the word "interrupted" or "terminated"; called
            only if the context was not left in time.
        continues: whether the process does other work after this context.
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
        if continues:  # else what still runs may hold up the end of the process
            over.set()
            signal.set_wakeup_fd(wakeup)
            signal.signal(signal.SIGTERM, former)
            mouth.close()


def _watch(
    ears: socket.socket, said: threading.Event, over: threading.Event, message: Callable[[str], str]
) -> None:
    """Wait for a signal, and then for the end of the process, for a limited time."""
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
