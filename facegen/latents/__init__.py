"""Statistics of latents over training."""
