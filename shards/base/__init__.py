"""What every step needs: errors, command lines, files, and where things are kept."""
