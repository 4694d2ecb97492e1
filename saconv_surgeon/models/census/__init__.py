"""Which convolutions a model has, how they run, and what follows each."""
