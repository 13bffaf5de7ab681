"""What a search looks like while it runs, on a terminal and in a notebook."""
