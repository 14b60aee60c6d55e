"""The web side of the studio: the application, its API and what guards it."""
