"""Tables and plots of an evaluation: statistics, CSV, plots, and one page of HTML."""
