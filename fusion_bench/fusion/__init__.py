"""Fusion strategies behind one interface: a folder a family, a file an operator."""
