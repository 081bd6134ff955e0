"""Legacy contracts of older programs, translated to and from ``glmserve.generation``."""
