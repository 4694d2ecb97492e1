"""Energy, where the machine can tell it."""
