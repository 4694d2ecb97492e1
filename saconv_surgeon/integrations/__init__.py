"""What makes converted models safe inside libraries that rewrite or rebuild models themselves; one file for each library."""
