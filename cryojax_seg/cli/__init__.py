"""Run the command line ``cryojax-seg``, which has one thin file for each command.

Nothing here imports JAX before the options are parsed, so that ``--help`` answers at once. Each
subcommand is a frozen dataclass of options and a function ``run(options)`` beside it.
"""

import atexit
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

from cryojax_seg.cli import (
    annotate,
    arguments,
    average,
    benchmark,
    compare,
    console,
    demo,
    evaluate,
    export,
    extract,
    info,
    measure,
    models,
    pick,
    projects,
    restore,
    segment,
    simulate,
    train,
    view,
)
from cryojax_seg.errors import ProcessError
from cryojax_seg.runtime import signals
from cryojax_seg.training.config import TrainingError
from cryojax_seg.training.progress import alive

_COMMANDS = {
    "demo": (demo.Demo, demo.run),
    "annotate": (annotate.Annotate, annotate.run),
    "train": (train.Train, train.run),
    "models": (models.Models, models.run),
    "segment": (segment.Segment, segment.run),
    "restore": (restore.Restore, restore.run),
    "evaluate": (evaluate.Evaluate, evaluate.run),
    "measure": (measure.Measure, measure.run),
    "compare": (compare.Compare, compare.run),
    "benchmark": (benchmark.Benchmark, benchmark.run),
    "pick": (pick.Pick, pick.run),
    "extract": (extract.Extract, extract.run),
    "average": (average.Average, average.run),
    "simulate": (simulate.Simulate, simulate.run),
    "export": (export.Export, export.run),
    "view": (view.View, view.run),
    "info": (info.Info, info.run),
}
_WAITING = ("annotate", "view")  # for somebody to do something, so there is no work to report


def program() -> NoReturn:
    """Run `main` as the program ``cryojax-seg`` and end the process.

    Python's own end takes apart all that JAX has built, which takes a third of a second, so it is
    left out. Functions that were registered with `atexit` run all the same. ``python -m
    cryojax_seg`` ends as Python does, so that profilers can report.
    """
    status = main()
    atexit._run_exitfuncs()
    signals.leave(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: done. 2: something is wrong with what was asked or with a file; one line on the error
    stream says what and how to mend it. 130 or 143: interrupted by Ctrl-C or by SIGTERM, within
    ten seconds; one line says what is kept. Any other exception is a defect of the program and
    shows its traceback, as does everything if the environment variable ``CRYOJAX_SEG_TRACEBACK``
    is set.

    Args:
        argv: arguments without the name of the program; those of the process by default.
    """
    console.silence_compiler()
    called = argv is not None
    argv = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    options = None

    def advice(word: str) -> str:
        return f"{word}; {console.advice(argv[0], options)}"

    def last(word: str) -> str:
        return f"{console.PROGRAM}: error: {advice(word)}"

    with console.warnings_as_lines(), signals.bounded(last, continues=called):
        try:
            options = arguments.parse(argv, {name: c[0] for name, c in _COMMANDS.items()})
            options = projects.with_projects(options)
            with nullcontext() if argv[0] in _WAITING else alive(argv[0]):
                next(run for kind, run in _COMMANDS.values() if kind is type(options))(options)
        except SystemExit as end:  # --help
            return end.code if isinstance(end.code, int) else 0
        except BrokenPipeError:  # the reader of a pipe has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except signals.Ended:
            if not called:
                signals.leave(0)
        except KeyboardInterrupt as interrupt:
            terminated = isinstance(interrupt, signals.Terminated)
            word = "terminated" if terminated else "interrupted"
            console.error(advice(word))
            status = 143 if terminated else 130
            if not called:
                signals.leave(status)
            return status
        except (ValueError, OSError, TrainingError, ProcessError) as error:
            if os.environ.get("CRYOJAX_SEG_TRACEBACK"):
                traceback.print_exc()
            console.error(error)
            return 2
        except MemoryError:
            console.error("out of memory; use smaller tiles (--tile) or patches (--patch)")
            return 2
    return 0
