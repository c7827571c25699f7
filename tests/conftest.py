"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# A busy machine, or the first call of a compiled kernel, is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
