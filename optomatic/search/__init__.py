"""Searches for users, and functions that look at stored ones."""
