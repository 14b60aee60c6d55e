"""Thousands of bad inputs, each drawn from a seed and judged: ``python -m tests.campaigns AREA --cases N --seed S``.

A case is a good input with a few changes. ``areas`` draws them and knows how to use the changed input, ``oracle`` says
what may come of it, ``shrinking`` leaves out changes that do not matter, and ``summary`` counts.
"""
