"""`glmserve bench`: load on a running server, and the report of it."""
