"""Runs beside each other, beside what they have to beat, and beside published numbers."""
