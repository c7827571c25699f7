"""Datasets of played episodes: their layout, writing, reading, and joining."""
