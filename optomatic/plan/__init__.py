"""What to score.  Pure: no pymongo, no clock, no network."""
