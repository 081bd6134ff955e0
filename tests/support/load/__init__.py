"""Many requests of all kinds at little cost to whoever sends them, and what came of them."""
