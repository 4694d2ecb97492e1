"""Small models with the shapes of real ones, one awkward idea each: build() makes one, example_inputs() what it takes."""
