"""`python -m owlore` is the `owlore` command."""

import sys

from owlore.cli.main import main

sys.exit(main())
