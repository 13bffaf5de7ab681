"""Who scores it."""
