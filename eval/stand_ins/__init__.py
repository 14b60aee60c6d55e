"""What a report measures beside trained models: simple baselines, and images that other programs made."""
