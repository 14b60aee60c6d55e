"""The parts of ``quality.py``: trainings that take turns at one machine, and what they have reached by when."""
