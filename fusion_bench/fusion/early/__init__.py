"""Early fusion: raw inputs are joined, then go through one encoder."""
