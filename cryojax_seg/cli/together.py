"""Commands that several processes run together."""

import contextlib
import os
from collections.abc import Iterator


def join(detect: bool, where: tuple[str | None, int | None, int | None]) -> bool:
    """Joins the other processes, if there are others.

    Args:
        detect: the others were started by Slurm or Open MPI.
        where: coordinator, count of processes and number of this one, where they were not.

    Raises:
        ValueError: for one of these without the others.
    """
    if where == (None, None, None) and not detect:
        return False
    if None in where and where != (None, None, None):
        raise ValueError("--coordinator, --processes and --process belong together")
    from cryojax_seg.training import processes

    processes.join(*where)
    return True


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed; errors are, by `main`. Of several processes the first speaks."""
    with open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
