"""One file for each command, which has the file's name: parse, one call of the library, deliver."""
