"""Use of trained models: prediction, export to other formats, and a server."""
