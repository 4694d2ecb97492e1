"""Models that libraries publish, by their libraries' names for them; one file for each library."""
