"""What ``tests/benchmarks/kills.py`` kills."""
