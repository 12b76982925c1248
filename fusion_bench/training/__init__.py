"""The compiled engine: optimiser, pure step, compiled program, and the loop that drives it."""
