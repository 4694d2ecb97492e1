"""Two variants, or two reports, side by side. What compares records alone imports no torch."""
