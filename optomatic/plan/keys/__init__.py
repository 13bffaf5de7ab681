"""What counts as equal: the keys of units."""
