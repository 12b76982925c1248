"""Layers and encoders: what turns one modality into features, the same in every strategy."""
