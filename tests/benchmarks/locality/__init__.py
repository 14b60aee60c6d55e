"""What an order in lanes costs and saves: traffic of many machines, planning, loading, training."""
