"""Settings of the whole suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine, or the first call of a compiled kernel, is no reason to fail.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The documents' journeys first: begun last, all other processes would wait for them."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch with two threads, whatever the machine has."""
    import torch  # not for the many tests that go without

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
