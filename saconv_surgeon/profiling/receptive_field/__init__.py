"""What a position of a map sees of the input."""
