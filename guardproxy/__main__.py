"""`python -m guardproxy`."""

import sys

from guardproxy.cli import main

sys.exit(main())
