"""``glmserve serve``."""
