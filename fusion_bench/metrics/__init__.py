"""Metrics of predictions, as pure functions of logits and labels, and statistics over seeds."""
