"""What sources of files share: listings, tables of labels, and copies of what can be read only once."""
