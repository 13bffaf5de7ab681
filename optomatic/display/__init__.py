"""What a search looks like: the line on a terminal, the bar and the grid of a notebook."""
