"""Which layers to convert, and to what, for a budget: prices, gains, the knapsack, the timed promise."""
