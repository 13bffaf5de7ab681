"""What to score: no pymongo, no clock, no network."""
