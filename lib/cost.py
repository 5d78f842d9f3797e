"""What Amazon Personalize would charge, in dollars: pure arithmetic on quantities and a list of prices.

Prices are data.  ``PRICES`` holds what several people transcribed from AWS's page for us-east-1; where transcriptions
differ or leave a border open the comment says *uncertain*.  Check them before money depends on them, and change what
has changed: ``replace(PRICES, gigabyte=0.06)``.  Nothing is free here: AWS's first two months may be.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

HOURS = 720  # of AWS's month
WINDOW_SECONDS = 300  # over which requests a second are averaged
BLOCK_USERS = 100_000

Tiers = Sequence[tuple[float, float]]
"""Upper border of each tier, and the price of one unit in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars for a unit.  Years are those of the transcriptions."""

    gigabyte: float = 0.05  # ingested, in bulk or live; 2019 to 2026
    training_hour: float = 0.24  # of 4 cores and 8 GiB, so several may pass in an hour of the clock; 2019 to 2026
    thousand_interactions: float = 0.002  # a training of a v2 recipe, before event types are chosen; 2024 to 2026
    tps_hour: Tiers = ((20_000, 0.20), (200_000, 0.10), (inf, 0.05))  # in a month; 2019 to 2021
    thousand_requests: Tiers = ((72e6, 0.0556), (720e6, 0.0278), (inf, 0.0139))  # by requests in a month; 2022 to 2026
    thousand_requests_v2: float = 0.15  # live and batch, metadata included; 2024 to 2026
    thousand_batch: Tiers = ((20e6, 0.067), (200e6, 0.058), (inf, 0.050))  # by recommendations; uncertain
    recommender_users: Tiers = (
        (1e5, 0.375),
        (1e6, 0.045),
        (1e7, 0.018),
        (inf, 0.005),
    )  # per 100,000; borders uncertain
    included_requests: Tiers = ((1e5, 4000), (1e6, 6000), (1e7, 9000), (inf, 14_000))  # an hour; borders uncertain
    thousand_extra_requests: Tiers = ((72e6, 0.0833), (720e6, 0.0417), (inf, 0.0208))  # in a month; borders uncertain
    metadata_hour: float = 0.10  # where the recipe is no v2; from one example of AWS's calculator
    thousand_metadata_requests: float = 0.0167  # likewise


PRICES = Prices()


def ingestion(gigabytes: float, prices: Prices = PRICES) -> float:
    """Imports and events."""
    return gigabytes * prices.gigabyte


def training(billed_hours: float, prices: Prices = PRICES) -> float:
    """A version of a classic recipe: 0 hours where it failed, those until the stop where it was stopped."""
    return billed_hours * prices.training_hour


def training_v2(interactions: int, prices: Prices = PRICES) -> float:
    """A version of a v2 recipe, by all interactions of the dataset."""
    return interactions / 1000 * prices.thousand_interactions


def tps_hours(requests: Iterable[float], minimum_tps: int = 1) -> float:
    """Capacity that a campaign is charged for.  requests: how many came in each window of five minutes."""
    return sum(max(minimum_tps, count / WINDOW_SECONDS) * WINDOW_SECONDS / 3600 for count in requests)


def campaign(tps_hours: float, prices: Prices = PRICES) -> float:
    """A month of a classic recipe's campaigns, by the capacity of ``tps_hours``."""
    return _tiered(tps_hours, prices.tps_hour)


def campaign_requests(requests: float, prices: Prices = PRICES) -> float:
    """The same in the newer form, by requests; a campaign has 3,600 of them for each hour of each TPS it keeps."""
    return _tiered(requests, prices.thousand_requests) / 1000


def campaign_v2(requests: float, prices: Prices = PRICES) -> float:
    """Requests to a v2 recipe's campaigns, or recommendations of its batch jobs."""
    return requests / 1000 * prices.thousand_requests_v2


def batch(recommendations: float, prices: Prices = PRICES) -> float:
    """A month of batch jobs of classic recipes."""
    return _tiered(recommendations, prices.thousand_batch) / 1000


def recommender(users: int, requests: Iterable[float], minimum_tps: int = 1, prices: Prices = PRICES) -> float:
    """A recommender's hours.  users: in the dataset group.  requests: how many came in each hour it was active."""
    hours = [max(count, minimum_tps * 3600) for count in requests]
    included = next(count for border, count in prices.included_requests if users <= border)
    extra = sum(max(0, count - included) for count in hours)
    blocks = max(1, ceil(users / BLOCK_USERS)) * BLOCK_USERS
    hour = _tiered(blocks, prices.recommender_users) / BLOCK_USERS
    return len(hours) * hour + _tiered(extra, prices.thousand_extra_requests) / 1000


def metadata(hours: float, requests: float, prices: Prices = PRICES) -> float:
    """Columns in the answers of a recipe that is no v2."""
    return hours * prices.metadata_hour + requests / 1000 * prices.thousand_metadata_requests


def bill(lines: Mapping[str, float]) -> dict[str, float]:
    """What each line comes to, to the cent, and the ``total`` of the lines before they were rounded."""
    return {name: round(dollars, 2) for name, dollars in {**lines, "total": sum(lines.values())}.items()}


def _tiered(quantity: float, tiers: Tiers) -> float:
    """Each part of a quantity at the price of its tier."""
    total = begin = 0.0
    for border, price in tiers:
        total += max(0.0, min(quantity, border) - begin) * price
        begin = border
    return total
