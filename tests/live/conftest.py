"""Fixtures that tests of whole systems share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.system import System
from live.zoo import Zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """Models that are built once; they are large, so nothing is left of them at the end."""
    folder = tmp_path_factory.mktemp("zoo")
    yield Zoo(folder)
    shutil.rmtree(folder)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system of which nothing runs yet; all must end well."""
    with System(tmp_path / "logs") as made:
        yield made
