"""The web side of the studio: the application and its API."""
