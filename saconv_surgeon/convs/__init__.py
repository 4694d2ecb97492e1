"""The convolutions that surgery puts in, and the registry of targets."""
