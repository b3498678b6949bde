"""What each op does to the cotangent of its output: the tables of vector-Jacobian products and of relevance rules."""
