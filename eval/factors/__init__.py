"""How latent dims stand for known factors."""
