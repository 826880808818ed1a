"""Errors and warnings that name the parameter which mends them.

Everything may import this, and it loads nothing. The library names parameters as Python does; the
command line adds the option of the same name when it prints the message.
"""


class Mendable(Exception):
    """Reports a problem that a parameter of the call mends.

    Attributes:
        parameters: the names of those parameters; empty if none mends it.
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(message)
        self.parameters = parameters


class ParameterError(Mendable, ValueError):
    """Reports that a parameter is missing or wrong; one line says what to give.

    >>> error = ParameterError("a.mrc: has no voxel size; give voxel_size", "voxel_size")
    >>> str(error), error.parameters
    ('a.mrc: has no voxel size; give voxel_size', ('voxel_size',))
    """


class ProcessError(Mendable, RuntimeError):
    """Reports that one of several processes failed or was started with other arguments."""
