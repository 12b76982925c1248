"""Tensor fusion: an outer product of features, or a factorisation of it."""
