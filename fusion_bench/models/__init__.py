"""Layers and encoders, the same in every strategy."""
