"""The compiled engine: optimiser, training program, and the loop that drives it."""
