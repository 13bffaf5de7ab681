"""What a search looks like while it runs: the line on a terminal, the bar and grid of a notebook."""
