"""Diagnostics: what a trained model relies on, and what it bears. A file each."""
