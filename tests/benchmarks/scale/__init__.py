"""What a data set of up to a billion samples costs: planning, opening, loading, and its index behind an address."""
