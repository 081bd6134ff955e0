"""Prompts of the embedded model whose greedy answers are the same on every CPU, in every batch.

Kernels and batches of other sizes move the logits of its q8_0 file by up to 0.2. Where two tokens are nearer to each
other than that, as after most random prompts, either may be the answer.
"""

SURE = (636, 1209, 387, 477, 446, 367, 650, 904)
""""What can you do?": in 40 tokens, without an end, each is ahead of the next best by 1.3 or more."""
ALSO_SURE = (382, 690, 650, 274, 383, 446)
""""who are you": by 1.1 or more."""
