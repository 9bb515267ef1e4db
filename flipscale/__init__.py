"""flipscale: scaling studies of language-image pre-training."""
