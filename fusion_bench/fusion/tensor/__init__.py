"""Tensor fusion: the join is an outer product of features, or a factorisation of it."""
