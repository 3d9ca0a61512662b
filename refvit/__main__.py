"""`python -m refvit` is the command `refvit`."""

import sys

from refvit.cli import main

sys.exit(main())
