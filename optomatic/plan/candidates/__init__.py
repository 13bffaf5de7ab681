"""Where candidates come from, and which of them are worth a score."""
