"""The bill, against examples whose sums are known."""

from dataclasses import replace

import pytest

from lib import cost
from lib.cost import HOURS, PRICES


def test_an_idle_campaign_costs_144_dollars_a_month():
    idle = cost.tps_hours([0] * HOURS * 12)
    assert idle == pytest.approx(HOURS)
    assert cost.bill({"campaign": cost.campaign(idle)})["total"] == 144.00
    assert cost.bill({"campaign": cost.campaign_requests(3600 * idle)})["total"] == 144.12  # its price is rounded


def test_the_example_of_awss_calculator_comes_out_to_the_cent():
    users, included = 1_000_000, 6000
    found = cost.bill(
        {
            "ingestion": cost.ingestion(10),
            "recommender": cost.recommender(users, [included + 420] * HOURS),
            "metadata": cost.metadata(HOURS, 300_000),
        }
    )
    assert found == {"ingestion": 0.50, "recommender": 586.79, "metadata": 77.01, "total": 664.30}


def test_trainings_of_classic_recipes_are_charged_by_the_hour():
    assert cost.bill({"100,000 interactions": cost.training(2.1)})["total"] == 0.50
    assert cost.bill({"25 million interactions": cost.training(53.9)})["total"] == 12.94


def test_trainings_of_v2_recipes_are_charged_by_interactions():
    weekly = [cost.training_v2(25_000_000)] * 4
    assert cost.bill({"one": weekly[0]})["total"] == 50.00
    assert cost.bill({"a month": sum(weekly)})["total"] == 200.00


def test_capacity_is_the_larger_of_the_minimum_and_what_was_asked():
    assert cost.tps_hours([0, 300, 3000], minimum_tps=2) == pytest.approx((2 + 2 + 10) / 12)


def test_each_part_of_a_quantity_has_the_price_of_its_tier():
    assert cost.campaign(30_000) == pytest.approx(20_000 * 0.20 + 10_000 * 0.10)
    assert cost.campaign_requests(100e6) == pytest.approx(72_000 * 0.0556 + 28_000 * 0.0278)
    assert cost.batch(250e6) == pytest.approx(20_000 * 0.067 + 180_000 * 0.058 + 50_000 * 0.050)


def test_a_begun_hundred_thousand_users_is_a_whole_one_and_included_requests_cost_nothing():
    hour = cost.recommender(1, [0], minimum_tps=1)
    assert hour == pytest.approx(0.375)
    assert cost.recommender(100_001, [5999]) == pytest.approx(0.375 + 0.045)
    assert cost.recommender(100_000, [0], minimum_tps=2) == pytest.approx(0.375 + 3.2 * 0.0833)


def test_prices_can_be_changed():
    assert cost.ingestion(10, replace(PRICES, gigabyte=0.06)) == pytest.approx(0.60)
    assert cost.campaign_v2(2000, replace(PRICES, thousand_requests_v2=1.0)) == pytest.approx(2)
