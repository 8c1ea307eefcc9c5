"""``python -m memsplit``."""

import sys

from .harness.cli import main

sys.exit(main())
