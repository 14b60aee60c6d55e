"""What a run reports while it trains: metrics on held-out faces, pictures, curves and progress."""
