"""Files from servers: downloaded whole and checked, and archives unpacked inside their folder."""
