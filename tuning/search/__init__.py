"""What a sweep searches, and by which objective."""
