"""Ctrl-C and SIGTERM: every command ends within seconds and says how to go on."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryojax_seg.cli.console import PROGRAM

SECONDS = 8.0  # to end in good order, before the process is ended in any case
_TRAINING = ("train", "restore", "compare")  # what they did is kept in their folder
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: so that what is half-written is removed on the way out."""


def advice(command: str, options: Any) -> str:
    """Says what is kept of a command that was interrupted, and how to go on.

    Args:
        command: its name.
        options: of the command; None while they are not known.

    >>> advice("info", None)
    'nothing was written; run the same command again'
    """
    output: Path | None = getattr(options, "output", None) or getattr(options, "openvino", None)
    if output is None:
        return "nothing was written; run the same command again"
    begun = next(filter(_begun, (output.with_suffix(".run"), output)), None)
    replaces = getattr(options, "overwrite", False)
    if begun is not None and command in _TRAINING:
        instead = " instead of --overwrite" if replaces else ""
        return f"what {begun} holds is kept; the same command with --resume{instead} goes on"
    if begun is not None and hasattr(options, "resume") and not replaces:
        return f"what {begun} holds is kept; the same command with --resume goes on"
    if begun is not None:
        return f"{begun} may be incomplete; the same command with --overwrite makes it again"
    return f"{output} is not finished; the same command goes on with it, or begins it again"


def _begun(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def leave(status: int) -> None:
    """Ends this process at once, after an interruption.

    Python's own end waits for what compiled programs still compute, and may crash then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def bounded(message: Callable[[], str], goes_on: bool) -> Iterator[None]:
    """Makes SIGTERM an exception, and ends a process that a signal cannot stop otherwise.

    Python calls the handler of a signal only between two of its own steps: compiling a program, or
    running one, may take minutes. So a thread learns of the signal at the same time, and ends the
    process some seconds later if it still runs then. What was published is whole at any moment.

    Args:
        message: says what is kept, see `advice`; asked only if the context was not left in time.
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
    ears: socket.socket, said: threading.Event, over: threading.Event, message: Callable[[], str]
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
            line = f"{PROGRAM}: error: {_WORDS[signal.Signals(number)]}; {message()}\n"
            os.write(2, line.encode())  # print might wait for a lock of the main thread
        os._exit(128 + number)
