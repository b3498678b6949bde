"""What opens an artifact and runs it, by format."""
