"""From objects to bytes and text, and back."""
