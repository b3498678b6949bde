"""Tables and pictures of an evaluation: statistics, CSV, plots, and one page of HTML."""
