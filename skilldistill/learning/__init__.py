"""Loops that play, label, and learn."""
