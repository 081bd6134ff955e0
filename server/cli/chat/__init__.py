"""`glmserve chat`: a conversation in the terminal."""
