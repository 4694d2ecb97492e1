"""What each candidate of each layer promises: scores from the data, from a short training, and baselines without either."""
