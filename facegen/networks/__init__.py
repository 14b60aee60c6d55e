"""Encoders, decoders and their blocks; no losses in here."""
