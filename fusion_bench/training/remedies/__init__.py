"""Remedies for imbalance between modalities: changes to training that are independent of the fusion strategy."""
