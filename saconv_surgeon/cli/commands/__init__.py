"""One file for each command: parse, one call of the library, deliver."""
