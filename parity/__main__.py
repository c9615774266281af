"""`python -m parity`: the command line, for environments whose scripts are not on the path."""

import sys

from parity.commands.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
