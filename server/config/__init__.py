"""Settings: their schema, the sources that they are loaded from, and the tables of the models."""
