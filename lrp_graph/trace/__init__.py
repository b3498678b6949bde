"""A model as a flat graph in a canonical form."""
