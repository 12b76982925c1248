"""Studies: plans of jobs, and their execution."""
