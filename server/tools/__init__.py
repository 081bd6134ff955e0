"""Tools that a model may call: how each family is told of them, held to them, and read. Pure."""
