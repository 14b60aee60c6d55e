"""Charts, grids and animations: numbers in, pictures out."""
