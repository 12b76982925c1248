"""Executors: where the jobs of a plan are executed."""
