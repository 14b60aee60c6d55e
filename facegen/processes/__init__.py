"""The processes of a training: devices, cores, signals, failures."""
