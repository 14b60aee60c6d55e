"""What every evaluation needs: runs by name, what they logged, ranks, tables of text."""
