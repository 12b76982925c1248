"""Intermediate fusion: an encoder for each modality, features joined, one head."""
