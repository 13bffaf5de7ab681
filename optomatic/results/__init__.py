"""Tables, frames and summaries of results.  Reads only."""
