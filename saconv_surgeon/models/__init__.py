"""From a MODEL argument to a module, its inputs, and a table of its convolutions."""
