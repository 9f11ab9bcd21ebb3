"""One browser for all tests of the explorer, and a fresh page for each."""

import pytest

from explorer import engine


@pytest.fixture(scope="package")
def browser():
    with engine.browsing() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A page, closed afterwards; what it throws fails the test."""
    page, thrown = browser.new_page(), []
    page.on("pageerror", thrown.append)
    yield page
    page.close()
    assert not thrown, thrown
