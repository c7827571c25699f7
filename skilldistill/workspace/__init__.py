"""What lies on disk: the manifest, its artefacts, and how they get there whole or not at all."""
