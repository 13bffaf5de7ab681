"""Workers: claim units, have them scored, and hand in the results."""
