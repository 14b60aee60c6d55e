"""The pictures of a report, each made by a small function of a model and of what the report knows."""
