"""Remedies for imbalance between modalities: changes of training that are independent of the fusion strategy."""
