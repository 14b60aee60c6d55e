"""One trial: its training, its evaluations, and where its files lie."""
