"""``python -m cryojax_seg`` is the command ``cryojax-seg``."""

import sys

from cryojax_seg.cli import main

if __name__ == "__main__":
    sys.exit(main())
