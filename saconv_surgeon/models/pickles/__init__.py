"""Pickles and checkpoints, read without a line of their code: nothing that a file names is looked up, imported or called."""
