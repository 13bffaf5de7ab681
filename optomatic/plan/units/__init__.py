"""From candidates to units, and the terms on which these are scored."""
