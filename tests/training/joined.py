"""What each of two joined processes does in a test: ``joined.py ADDRESS INDEX FOLDER``.

Prints what it saw as JSON.
"""

import errno
import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

from cryojax_seg.runtime import processes
from cryojax_seg.runtime.interrupts import Interrupts
from cryojax_seg.segmenters import LinearVote
from cryojax_seg.training import Augmentation, rundir, train

sys.path.insert(0, str(Path(__file__).parent))
import worker  # noqa: E402

SMALL = {
    "steps": 12,
    "patch": 16,
    "validate_every": 6,
    "checkpoint_every": 4,
    "augmentation": Augmentation(),
}


def interrupted(folder, index, count):
    """A run in which a signal arrives at process 1 after it asked so many times."""
    ask, calls = Interrupts.ask, []

    def asked(self, failure=None):
        ask(self, failure)
        calls.append(failure)
        if index == 1 and len(calls) == count:
            signal.raise_signal(signal.SIGTERM)

    with mock.patch.object(Interrupts, "ask", asked):
        return worker.run(folder, **SMALL)


def error_of(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def disk_full(*_):
    raise OSError(errno.ENOSPC, "no space")


def unlogged(folder):
    with mock.patch.object(rundir.MetricsFile, "write", disk_full):
        worker.run(folder, **SMALL)


def watch(folder, touched):
    """Notes what this process creates, writes, renames or removes in the folder."""

    def hook(event, arguments):
        writing = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate") or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writing and str(arguments[0]).startswith(str(folder)):
            touched.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)


def main(address, index, folder):
    processes.join(address, 2, index)
    touched = []
    watch(folder, touched)
    seen = {
        "part": worker.digest(interrupted(folder / "run", index, 6)),
        "rest": worker.digest(worker.run(folder / "run", resume=True, **SMALL)),
        "again": error_of(lambda: worker.run(folder / "run", **SMALL)),
        "odd batch": error_of(lambda: worker.run(batch=3)),
        "other data": error_of(
            lambda: train(LinearVote(radius=1), [worker.example(seed=index)], worker.config())
        ),
        "unlogged": error_of(lambda: unlogged(folder / "unlogged")),
        "touched": touched,
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
