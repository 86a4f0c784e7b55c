"""`python -m resrep_keras` is the command line."""

import sys

from resrep_keras.cli import main

sys.exit(main())
