"""Commands that several processes run together."""

import contextlib
import os
from collections.abc import Iterator


def join(detect: bool, where: tuple[str | None, int | None, int | None]) -> bool:
    """Join the other processes, if there are others.

    Args:
        detect: the others were started by Slurm or Open MPI.
        where: coordinator, count of processes and number of this one, where they were not.

    Raises:
        ParameterError: for one of these without the others.
    """
    if where == (None, None, None) and not detect:
        return False
    from cryojax_seg import runtime

    runtime.join(*where)
    return True


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is printed; errors are, by `main`. Of several processes the first speaks."""
    with open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
