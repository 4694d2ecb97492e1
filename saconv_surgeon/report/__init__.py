"""Records rendered for people. Nothing here imports torch."""
