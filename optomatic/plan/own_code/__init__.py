"""Code of one's own that a worker must have."""
