"""Verification: do an encoder's latents tell pairs of one person from pairs of two?"""
