"""One browser for all tests of the explorer, and a fresh page for each."""

import pytest
from explorer import engine


@pytest.fixture(scope="package")
def browser():
    with engine.browsing() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A page in a context of its own; what it, or another page there, throws fails the test."""
    context, thrown = browser.new_context(), []
    context.on("weberror", lambda error: thrown.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert not thrown, thrown
