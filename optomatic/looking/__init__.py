"""What can be seen of a search in the store, whoever made it and however it ended."""
