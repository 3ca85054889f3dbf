"""``python -m arraydiff``."""

from __future__ import annotations

import sys

from arraydiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
