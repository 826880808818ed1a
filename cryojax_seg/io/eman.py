"""Read the particles that EMAN2 keeps of a tomogram, the boxes in ``info/NAME_info.json``.

Where ``apix_unbin`` is known, EMAN2 counts pixels of that size from the middle of the tomogram
(``e2spt_boxer.py``), else voxels from its first one. Particles are points; EMAN2 keeps orientations
elsewhere.
"""

from pathlib import Path

from cryojax_seg.io.files import FileError
from cryojax_seg.io.plain import read_json_object
from cryojax_seg.io.relion import CENTRED, CLASS, SCORE
from cryojax_seg.text import shown

_LARGEST = 2**28  # bytes
_FORM = (0.0, 0.0, 0.0, "manual", 0.0, 0)  # x, y, z, method, score and class of a box


def read_columns(path: Path) -> dict[str, list[str]]:
    """Return the boxes as columns of RELION, centred and in angstrom, or as voxels from a corner.

    The middle of an axis of odd length lies half a voxel further on than EMAN2 has it.

    Raises:
        FileError: naming the file, if it has no boxes, or one that is not as EMAN2 writes it.

    >>> import json, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "TS_1_info.json"
    >>> boxes = [[10, -20, 4, "tm", 0.5, 2]]
    >>> _ = file.write_text(json.dumps({"apix_unbin": 2.5, "boxes_3d": boxes}))
    >>> columns = read_columns(file)
    >>> columns["rlnCenteredCoordinateXAngst"], columns["rlnClassNumber"]
    (['25.0'], ['2'])
    """
    content = read_json_object(path, _LARGEST)
    boxes, size = content.get("boxes_3d"), content.get("apix_unbin")
    if not isinstance(boxes, list):
        raise FileError(
            f"{path}: holds no particles: neither points of copick nor boxes_3d of EMAN2; give "
            "info/NAME_info.json of EMAN2, or USER_SESSION_OBJECT.json of copick"
        )
    if size is not None and not (isinstance(size, (int, float)) and 0 < size < 1e6):
        raise FileError(f"{path}: its apix_unbin is {shown(size, 60)}; give angstrom above 0")
    rows = []
    for row, box in enumerate(boxes, 1):
        try:
            if len(box) < 3:
                raise ValueError("it has no x, y and z")
            x, y, z, method, score, kind = [*box, *_FORM[len(box) :]][:6]
            places = [float(value) * float(size or 1.0) for value in (x, y, z)]
            rows.append((*map(repr, places), str(method), repr(float(score)), str(int(kind))))
        except (TypeError, ValueError, OverflowError) as error:
            raise FileError(
                f"{path}: box {row} is not as EMAN2 writes it ({error}); correct it"
            ) from None
    names = ("x", "y", "z") if size is None else CENTRED[::-1]
    last = ("score", "class") if size is None else (SCORE, CLASS)
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return {
        name: list(column) for name, column in zip((*names, "method", *last), columns, strict=True)
    }
