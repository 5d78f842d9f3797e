import pytest
import torch

from lib.recipes.rough import Rough


@pytest.mark.parametrize(("n_items", "dim"), [(1, 64), (7, 3), (1_001, 64), (50, 33)])
def test_products_are_off_by_little_and_the_same_whatever_is_asked_beside(n_items, dim):
    torch.manual_seed(0)
    table, places = torch.randn(n_items, dim), torch.randn(3, dim)
    rough = Rough.of(table)
    found, exact = rough.products(places), (places @ table.T).numpy()
    assert found.shape == (3, n_items)
    assert abs(found - exact).max() < 0.04 * dim**0.5
    assert (rough.products(places[1:2]) == found[1:2]).all()


def test_an_item_at_the_origin_is_no_division_by_nothing():
    assert not Rough.of(torch.zeros(4, 8)).products(torch.ones(1, 8)).any()
