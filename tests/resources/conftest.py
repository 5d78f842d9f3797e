import pytest

from tests.resources.workflow import Personalize


@pytest.fixture
def personalize(tmp_path, place):
    """An account with a clock that the test moves."""
    personalize = Personalize.open(tmp_path, place)
    yield personalize
    personalize.account.store.close()
