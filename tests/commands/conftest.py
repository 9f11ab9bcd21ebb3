"""Commands, in a folder of their own."""

import pytest


@pytest.fixture(scope="session")
def settings(small_settings):
    """The arguments that give the small run."""
    return ["--preset", "smoke", "--set", *(f"{k}={v}" for k, v in small_settings.items())]
