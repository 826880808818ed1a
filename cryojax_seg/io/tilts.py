"""Read what programs keep of a tilt series beside its tomogram: tilts, axis, dose and defocus.

It reads lists of tilts (`.tlt`, `.rawtlt`), SerialEM's `.mdoc`, AreTomo's `.aln`, the `.tomostar`
and `.xml` of Warp and M, and tilt series of RELION 5 (`.star`). The content decides which it is.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from cryojax_seg.io.files import FileError, PathLike
from cryojax_seg.io.plain import read_bytes
from cryojax_seg.io.star import read_star
from cryojax_seg.io.text import decoded

_LARGEST = 2**26  # bytes
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PICOMETRE = 1e-4  # micrometres of an angstrom
_ALN = ("AreTomo Alignment", "Priims bprmMn")


@dataclasses.dataclass(frozen=True)
class TiltSeries:
    """What a file says of a tilt series.

    Attributes:
        path: the file.
        kind: what it is, in words.
        tilts: degrees, in the order of the file, without images that are left out.
        axis: degrees from the y axis of the images to the tilt axis; None if unknown.
        dose: electrons per square angstrom at the end of the series; None if unknown.
        defocus: least and greatest defocus in micrometres, positive under focus; None if unknown.
        left_out: number of images that were not used.

    >>> TiltSeries("a.tlt", "list of tilts", (3.0, -60.0, 57.0)).tilt_range
    (-60.0, 57.0)
    """

    path: str
    kind: str
    tilts: tuple[float, ...]
    axis: float | None = None
    dose: float | None = None
    defocus: tuple[float, float] | None = None
    left_out: int = 0

    @property
    def tilt_range(self) -> tuple[float, float]:
        """Return the lowest and highest tilt in degrees."""
        return min(self.tilts), max(self.tilts)

    def facts(self) -> dict[str, str]:
        """Return name and value of what is known, with units, ready to print.

        >>> TiltSeries("a.tlt", "list of tilts", (-60.0, 60.0), axis=85.3).facts()["tilt axis"]
        '85.3 degrees from y in the images'
        """
        low, high = self.tilt_range
        steps = sorted(b - a for a, b in itertools.pairwise(sorted(self.tilts)))
        found = {
            "tilts": f"{len(self.tilts)}" + (f", {self.left_out} left out" * bool(self.left_out)),
            "tilt range": f"{low:g} to {high:g} degrees",
        }
        if steps:
            found["step"] = f"{steps[len(steps) // 2]:.3g} degrees"
        if self.axis is not None:
            found["tilt axis"] = f"{self.axis:g} degrees from y in the images"
        if self.dose is not None:
            found["dose"] = f"{self.dose:.4g} electrons per square angstrom"
        if self.defocus is not None:
            least, greatest = self.defocus
            found["defocus"] = f"{least:.3g} to {greatest:.3g} micrometres"
        return found


def is_tilt_series(path: PathLike) -> bool:
    """Return whether a file is one of those that `read_tilt_series` reads, by its first bytes."""
    try:
        with open(path, "rb") as file:
            start = file.read(2**14)
    except OSError:
        return False
    if b"\0" in start:
        return False
    return _reader(start.decode("utf-8", "replace"), cut=len(start) == 2**14) is not None


def read_tilt_series(path: PathLike) -> TiltSeries:
    """Read the tilts of a series, and what else a file says of it.

    Raises:
        FileError: if it is none of the known files, or says no tilt; it names the file.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.rawtlt"
    >>> _ = file.write_text(chr(10).join(["-60.0", "-57.0", "54.0"]))
    >>> read_tilt_series(file).tilt_range
    (-60.0, 54.0)
    """
    path = Path(path)
    text = decoded(read_bytes(path, _LARGEST), path)
    reader = _reader(text)
    if reader is None:
        raise FileError(
            f"{path}: is no file of a tilt series; give a list of tilts (.tlt, .rawtlt), an .mdoc, "
            "an .aln of AreTomo, a .tomostar or .xml of Warp, or a tilt series of RELION (.star)"
        )
    try:
        found = reader(text, path)
    except FileError:
        raise
    except (ValueError, LookupError) as error:
        raise FileError(f"{path}: not a readable tilt series ({error}); copy it again") from None
    if not found.tilts:
        raise FileError(f"{path}: says no tilt; is it the file of a tilt series?")
    odd = [tilt for tilt in found.tilts if not abs(tilt) <= 90]
    if odd:
        raise FileError(f"{path}: has a tilt of {odd[0]:g} degrees; tilts are from -90 to 90")
    return found


def _reader(text: str, cut: bool = False) -> Callable[[str, Path], TiltSeries] | None:
    """Return the reader of a file that begins with this text."""
    start = text.lstrip()
    if start.startswith("#") and any(word in start[:200] for word in _ALN):
        return _aln
    if re.search(r"^\[ZValue\s*=", text, re.MULTILINE):
        return _mdoc
    if re.search(r"<TiltSeries[\s>]", start[:2000]):
        return _warp
    if re.search(r"^\s*_(wrpAngleTilt|rlnTomoNominalStageTiltAngle|rlnTomoYTilt)\b", text, re.M):
        return _star
    lines = [line for line in text.split("\n")[: -1 if cut else None] if line.strip()]
    one = re.compile(rf"\s*{_NUMBER}(\s+{_NUMBER}){{0,3}}\s*")
    listed = lines and all(one.fullmatch(line) for line in lines)
    return _list if listed and all(abs(float(line.split()[0])) <= 90 for line in lines) else None


def _list(text: str, path: Path) -> TiltSeries:
    """Read one tilt a line; AreTomo adds the order of acquisition, and a dose."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return TiltSeries(str(path), "list of tilts", tuple(float(row[0]) for row in rows))


def _mdoc(text: str, path: Path) -> TiltSeries:
    sections = re.split(r"^\[ZValue\s*=[^\]]*\]", text, flags=re.MULTILINE)
    entries = [dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", s, re.MULTILINE)) for s in sections[1:]]
    tilts = tuple(float(entry["TiltAngle"]) for entry in entries)
    doses = [float(entry["ExposureDose"]) for entry in entries if "ExposureDose" in entry]
    title = re.search(rf"Tilt axis angle\s*=\s*({_NUMBER})", sections[0])
    rotations = [float(entry["RotationAngle"]) for entry in entries if "RotationAngle" in entry]
    axis = float(title[1]) if title else rotations[0] if rotations else None
    stated = [float(entry["Defocus"]) for entry in entries if "Defocus" in entry]
    return TiltSeries(
        str(path),
        "SerialEM metadata (mdoc)",
        tilts,
        axis,
        math.fsum(doses) if len(doses) == len(tilts) and any(doses) else None,
        _span([-value for value in stated]),  # SerialEM counts under focus as negative
    )


def _aln(text: str, path: Path) -> TiltSeries:
    dark = len(re.findall(r"^#\s*DarkFrame\s*=", text, re.MULTILINE))
    rows = re.split(r"^#\s*Local Alignment", text, flags=re.MULTILINE)[0].splitlines()
    words = [row.split() for row in rows if row.strip() and row[0] != "#"]
    values = [[float(word) for word in row] for row in words]
    if any(len(row) < 10 for row in values):
        raise ValueError("a row has fewer than 10 columns")
    tilts = tuple(row[9] for row in values)
    return TiltSeries(
        str(path), "AreTomo alignment", tilts, values[0][1] if values else None, left_out=dark
    )


def _warp(text: str, path: Path) -> TiltSeries:
    if "<!DOCTYPE" in text:  # of no use here but to blow it up
        raise ValueError("its XML defines entities")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, RecursionError) as error:
        raise ValueError(str(error)) from None

    def words(name: str) -> list[str]:
        return (root.findtext(name) or "").split()

    every = [float(word) for word in words("Angles")]
    use = [word.lower() != "false" for word in words("UseTilt")]
    used = use if len(use) == len(every) else [True] * len(every)
    doses, axes = ([float(word) for word in words(name)] for name in ("Dose", "AxisAngle"))
    nodes = [float(node.attrib["Value"]) for node in root.findall("GridCTF/Node")]
    single = root.find("CTF/Param[@Name='Defocus']")
    stated = nodes or ([float(single.attrib["Value"])] if single is not None else [])
    return TiltSeries(
        str(path),
        "Warp tilt series (XML)",
        tuple(tilt for tilt, one in zip(every, used, strict=True) if one),
        axes[0] if axes else None,
        max(doses) if doses and any(doses) else None,
        _span(stated),
        used.count(False),
    )


def _star(text: str, path: Path) -> TiltSeries:
    tables = read_star(path)
    columns = next((t for t in tables.values() if {"wrpAngleTilt", *_TILTS} & set(t)), {})
    warp = "wrpAngleTilt" in columns
    label = next(name for name in ("wrpAngleTilt", *_TILTS) if name in columns)

    def numbers(name: str) -> list[float]:
        return [float(value) for value in columns.get(name, ())]

    axis = numbers("wrpAxisAngle" if warp else "rlnTomoNominalTiltAxisAngle")
    doses = numbers("wrpDose" if warp else "rlnMicrographPreExposure")
    return TiltSeries(
        str(path),
        "Warp tilt series (tomostar)" if warp else "RELION tilt series",
        tuple(numbers(label)),
        axis[0] if axis else None,
        max(doses) if doses and any(doses) else None,
        _span([_PICOMETRE * value for value in numbers("rlnDefocusU")]),
    )


_TILTS = ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle")  # after alignment, and before


def _span(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the least and greatest of values; None if there are none but zeros."""
    return (min(values), max(values)) if values and any(values) else None
