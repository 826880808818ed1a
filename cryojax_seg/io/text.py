"""Read text that other programs wrote, in any common encoding."""

import codecs
import re
from pathlib import Path

from cryojax_seg.io.files import FileError, PathLike

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, kind: str = "a table") -> str:
    r"""Return the text of a file with line feeds as line ends.

    UTF-8 is read with or without a byte order mark, UTF-16 with one, and all else as Latin-1 of
    Windows, which is what older spreadsheets write.

    Args:
        path: the file.
        kind: of file that was expected, for the message.

    Raises:
        FileError: if the file holds characters that no text has.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_bytes("\ufeffµ\r\n".encode())
    >>> read_text(path)
    'µ\n'
    """
    return decoded(path.read_bytes(), path, kind)


def decoded(raw: bytes, path: PathLike, kind: str = "a table") -> str:
    """Return the text of bytes with line feeds as line ends."""
    try:
        text = raw.decode("utf-16" if raw.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        # Five bytes have no meaning in the code page of Windows; Latin-1 has one for each.
        decoded = raw.decode("cp1252", "replace")
        text = raw.decode("latin-1") if "\ufffd" in decoded else decoded
    if _CONTROL.search(text):
        raise FileError(f"{path}: is not text, so not {kind}; check what it is")
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
