"""Disentanglement: how well single latent dims represent single known factors."""
