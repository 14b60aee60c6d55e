"""The report: its parts, their numbers and pictures, and the page."""
