"""A finished report as a page, Markdown, JSON and a table on the terminal."""
