"""From candidates to units, and to the bytes that workers need."""
