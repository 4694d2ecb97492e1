"""What is promised about speed and about numbers, measured: each script prints the goal beside what it found."""
