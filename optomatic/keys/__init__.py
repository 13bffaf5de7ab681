"""What counts as equal: the digest of what workers are sent, and its exceptions."""
