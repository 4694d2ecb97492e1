"""Targets that cannot equal the convolution: how layers are initialized, and how much of the outputs is kept."""
