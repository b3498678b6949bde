"""A page on which one looks through the explanations of many images, and the numbers as CSV."""
