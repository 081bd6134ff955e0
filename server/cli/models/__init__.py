"""``glmserve doctor``, ``list`` and ``pull``: the models on this machine."""
