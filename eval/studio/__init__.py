"""The studio: a local web page and an HTTP API over trained runs."""
