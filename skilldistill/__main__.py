"""``python -m skilldistill``: the same as the console script."""

import sys

from skilldistill.cli import main

sys.exit(main())
