"""`python -m owlore` is the `owlore` command."""

import sys

from owlore.cli import main

sys.exit(main())
