"""``python -m saconv_surgeon``."""

import sys

if not sys.flags.safe_path and len(sys.path) > 1:
    # Python puts the working folder first, where a user's click.py would take the place of the library
    sys.path.append(sys.path.pop(0))

from saconv_surgeon.cli import main

if __name__ == "__main__":
    main()
