"""What the machine can do at most, and how much of that each layer gets."""
