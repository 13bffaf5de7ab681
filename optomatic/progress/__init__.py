"""Show a running search on a terminal and in a notebook."""
