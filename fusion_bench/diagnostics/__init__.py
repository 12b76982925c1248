"""Diagnostics of trained models, one file each: on which modalities they rely, and how robust they are."""
