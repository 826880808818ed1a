"""Check the XML of an OME-TIFF against the files it names before it is used.

tifffile fills planes that are missing with zeros, and makes a list of as many planes as the XML
claims. So planes, sizes and files are counted here first.
"""

from pathlib import Path
from xml.etree import ElementTree

from cryojax_seg.io.files import FileError, existing_file
from cryojax_seg.text import shown

_LONGEST = 2**25  # characters of XML; a set of 100,000 planes has some 2**24
_SMALLEST_PAGE = 18  # bytes that describe a page, at least


def check_ome(xml: str, page: tuple[int, int], count: int, path: Path) -> None:
    """Refuse a file whose planes are not all in it or in the files of its set beside it.

    Args:
        xml: the description in its first page.
        page: shape of that page, (y, x).
        count: pages of this file.
        path: the file.

    Raises:
        FileError: naming the file, and the one of its set that is missing or cannot belong to it.
    """
    if len(xml) > _LONGEST:
        raise FileError(f"{path}: has {len(xml)} characters of OME-XML; save it without them")
    if "<!DOCTYPE" in xml:  # of no use here but to blow it up
        raise FileError(f"{path}: its OME-XML defines entities; save it without them")
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: its OME-XML is damaged ({error}); copy it again") from None
    for element in root.iter():
        kind = element.tag.rpartition("}")[2]
        if kind == "BinaryOnly":
            other = element.attrib.get("MetadataFile", "another file")
            raise FileError(f"{path}: is a part of the set that {other} describes; name that file")
        if kind.startswith("ModuloAlong"):
            raise FileError(f"{path}: its OME-XML divides an axis ({kind}); save plain z, y, x")
        if kind == "Pixels":
            _check_pixels(element, root.attrib.get("UUID"), page, count, path)


def _check_pixels(
    pixels: ElementTree.Element, own: str | None, page: tuple[int, int], count: int, path: Path
) -> None:
    sizes = {axis: _count(pixels, f"Size{axis}", path) for axis in "XYZCT"}
    stated = (sizes["Y"], sizes["X"])
    order = pixels.attrib.get("DimensionOrder", "")
    if stated != page or sorted(order) != list("CTXYZ") or order[:2] != "XY":
        raise FileError(
            f"{path}: its OME-XML claims planes of {stated} pixels in the order {shown(order)}, "
            f"the first is {page} (y, x); save it again"
        )
    if any(e.attrib.get("SamplesPerPixel", "1") != "1" for e in pixels.iter()):
        raise FileError(f"{path}: is a colour image; convert it to greyscale")
    planes = sizes["Z"] * sizes["C"] * sizes["T"]
    blocks = [e for e in pixels if e.tag.endswith("TiffData")]
    files = {path: path.stat().st_size}
    for block in blocks:
        for uuid in (e for e in block if e.tag.endswith("UUID")):
            name = uuid.attrib.get("FileName", path.name)
            if uuid.text != own or own is None:
                other = _of_the_set(name, path)
                files[other] = other.stat().st_size
    # Without a list of them the planes are the pages of this file, in their order.
    room = sum(files.values()) // _SMALLEST_PAGE if blocks else count
    if not 0 < planes <= room:
        raise FileError(
            f"{path}: truncated or damaged: its OME-XML claims {planes} planes, and it holds "
            f"{room} at most. Copy it again"
        )
    for block in blocks:
        for name in ("IFD", "PlaneCount", "NumPlanes", "FirstZ", "FirstC", "FirstT"):
            count = _count(block, name, path, least=0)
            if count > room:
                raise FileError(
                    f"{path}: its OME-XML has {name} {count}; there are {planes} planes"
                )


def _of_the_set(name: str, path: Path) -> Path:
    """Return another file of the set, which must lie beside this one."""
    if name.lower() == path.name.lower():
        return path
    if not name or Path(name).name != name or "\\" in name:
        raise FileError(
            f"{path}: its OME-XML refers to {shown(name, 200)}, which is not beside it; put all "
            "files of the set into one folder, or save it as one file"
        )
    try:
        return existing_file(path.with_name(name))
    except FileError:
        raise FileError(
            f"{path}: a file of its set is missing: {shown(name, 200)}; put all files of the set "
            "into one folder, or save it as one file"
        ) from None


def _count(element: ElementTree.Element, name: str, path: Path, least: int = 1) -> int:
    """Return an attribute that is a number; an absent one counts as the least."""
    text = element.attrib.get(name, str(least))
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise FileError(f"{path}: its OME-XML has {name} {shown(text)}; a whole number is needed")
    return int(text)
