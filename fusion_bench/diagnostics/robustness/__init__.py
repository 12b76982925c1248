"""Robustness of trained models: to corrupted images, dropped words, and captions of another channel."""
