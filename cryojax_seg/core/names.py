"""Names the labels and the classes of a segmenter; what paints labels needs it without JAX."""

from collections.abc import Sequence

from cryojax_seg.errors import ParameterError


def label_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name of each label value, background first.

    >>> label_names(("membrane",))
    ('background', 'membrane')
    """
    return ("background", *classes) if len(classes) == 1 else tuple(classes)


def class_names(names: Sequence[str], highest: int) -> tuple[str, ...]:
    """Return the classes as a segmenter has them, from the names of the labels 1, 2, ...

    Args:
        names: of the labels in order; none to make some up.
        highest: label that occurs, if there are no names.

    Raises:
        ParameterError: if two names are equal.

    >>> class_names(("membrane",), 1), class_names((), 2)
    (('membrane',), ('background', 'class1', 'class2'))
    >>> class_names(("membrane", "microtubule"), 2)
    ('background', 'membrane', 'microtubule')
    """
    if not names:
        names = ("foreground",) if highest <= 1 else [f"class{i + 1}" for i in range(highest)]
    if len(set(names)) < len(names):
        raise ParameterError(f"the names of classes must differ, got {' '.join(names)}", "classes")
    several = len(names) > 1 and names[0] != "background"
    return ("background", *names) if several else tuple(names)
