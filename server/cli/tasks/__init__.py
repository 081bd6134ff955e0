"""``glmserve task``: runs tasks, on many lines too, and checks them by their examples."""
