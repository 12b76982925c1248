"""Captions: channels of known information, their words and sentences, tokens, and files."""
