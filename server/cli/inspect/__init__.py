"""``glmserve inspect``: the description of a model file, and a verdict."""
