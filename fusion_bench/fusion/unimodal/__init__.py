"""Baselines: one modality, one encoder, one head."""
