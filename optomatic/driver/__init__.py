"""How the units of a search get scored, seen from the process that wants them."""
