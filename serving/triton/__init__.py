"""What servers need beside an artifact, written from its metadata: a model repository for Triton."""
