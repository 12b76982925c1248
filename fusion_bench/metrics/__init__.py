"""What a run's predictions are worth: pure functions of logits and labels, and intervals over seeds."""
