"""``python -m saconv_surgeon``."""

from saconv_surgeon.cli import main

if __name__ == "__main__":
    main()
