"""Faces that are edited by recipes: what the studio serves, without the web."""
