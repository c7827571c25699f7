"""Single-skill experts: plain NumPy networks, how they are read, trained, and played together."""
