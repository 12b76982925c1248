"""Runs a study: every strategy with every seed, measured and stored."""
