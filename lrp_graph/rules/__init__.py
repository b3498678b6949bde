"""What each op does to the share of its output: the tables of vector-Jacobian products and of relevance."""
