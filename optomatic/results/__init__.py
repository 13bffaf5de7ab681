"""What came out.  Reads only."""
