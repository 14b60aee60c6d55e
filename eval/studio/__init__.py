"""The studio: a local web page over trained runs, its HTTP API, and the Python functions that do all the work."""
