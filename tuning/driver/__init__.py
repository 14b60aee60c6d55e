"""Driving a sweep: Ray, its schedulers, the sweep's folder and its table."""
