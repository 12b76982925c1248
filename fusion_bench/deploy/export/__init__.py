"""A classifier in formats that other programs read, each checked against the stored run."""
