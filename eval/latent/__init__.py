"""Latent tools: what directions in a trained model's latent space mean, as functions that commands and pages share."""
