"""A page on which one looks through the explanations of many pictures, and the numbers as CSV."""
