"""What every step needs: errors, command lines, files, downloads, and where things are kept."""
