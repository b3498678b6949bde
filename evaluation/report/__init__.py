"""What is written of an evaluation: statistics, CSV, plots, and one page of HTML."""
