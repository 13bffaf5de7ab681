"""How a search goes on whose candidates come about while others are scored."""
