"""Playing seeded episodes, and saying honestly what their outcome shows."""
