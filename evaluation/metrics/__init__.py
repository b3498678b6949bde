"""The metrics: what each makes of a map, and their table."""
