import pytest


@pytest.fixture(scope="module")
def package() -> str:
    return "sluice_runs"
