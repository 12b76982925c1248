"""Studies: a plan of jobs, their execution, and what they share."""
