"""The student: one network with a head per group of action dimensions."""
