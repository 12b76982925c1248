"""Executors: ways to hand out the jobs of a plan."""
