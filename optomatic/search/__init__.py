"""What users call: searches, and what can be seen of them."""
