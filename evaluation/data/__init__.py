"""Data sets as users have them, read as samples."""
