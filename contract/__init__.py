"""What an artifact is: its outputs, metadata and digest, and the errors of those who read or write it."""
