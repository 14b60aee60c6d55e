"""What every step needs: errors, files, records, printing, and where things are kept."""
