"""What every evaluation needs: runs by name, ranks, tables of text."""
