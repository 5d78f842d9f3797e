"""The use cases of domain dataset groups: each is one of the recipes, set up for a shop or a video service."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """A recipe for recommenders.

    base: the recipe of the catalogue that it trains.  event_type: the events it learns from, None for all.  needs: what
    a request must bring.  leaves_out: items that the user has such an event with are never answered.  items: whether
    an Items dataset is needed.  explores: whether new items may be mixed in.
    """

    name: str
    domain: str
    base: str
    description: str
    needs: tuple[str, ...]
    event_type: str | None = None
    leaves_out: str | None = None
    items: bool = False
    explores: bool = False

    @property
    def automatic_filter(self) -> str | None:
        """The filter that every answer passes before the request's own one."""
        if self.leaves_out is None:
            return None
        return f'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("{self.leaves_out}")'


USE_CASES: dict[str, UseCase] = {
    case.name: case
    for case in (
        UseCase(
            name="aws-ecomm-popular-items-by-views",
            domain="ECOMMERCE",
            base="aws-popularity-count",
            description="Most viewed: the items that most people looked at.",
            needs=("userId",),
            event_type="View",
        ),
        UseCase(
            name="aws-ecomm-popular-items-by-purchases",
            domain="ECOMMERCE",
            base="aws-popularity-count",
            description="Best sellers: the items that most people bought.",
            needs=("userId",),
            event_type="Purchase",
        ),
        UseCase(
            name="aws-ecomm-frequently-bought-together",
            domain="ECOMMERCE",
            base="aws-sims",
            description="Frequently bought together: what is bought by those who buy an item.",
            needs=("itemId",),
            event_type="Purchase",
        ),
        UseCase(
            name="aws-ecomm-customers-who-viewed-x-also-viewed",
            domain="ECOMMERCE",
            base="aws-sims",
            description="Customers who viewed X also viewed: without what the user has bought.",
            needs=("userId", "itemId"),
            event_type="View",
            leaves_out="Purchase",
        ),
        UseCase(
            name="aws-ecomm-recommended-for-you",
            domain="ECOMMERCE",
            base="aws-user-personalization-v2",
            description="Recommended for you: personal, without what the user has bought.",
            needs=("userId",),
            leaves_out="Purchase",
            explores=True,
        ),
        UseCase(
            name="aws-vod-because-you-watched-x",
            domain="VIDEO_ON_DEMAND",
            base="aws-sims",
            description="Because you watched X: what is watched by those who watch a title, without what the user "
            "has watched.",
            needs=("userId", "itemId"),
            event_type="Watch",
            leaves_out="Watch",
        ),
        UseCase(
            name="aws-vod-more-like-x",
            domain="VIDEO_ON_DEMAND",
            base="aws-similar-items",
            description="More like X: titles that are alike and watched alike, without what the user has watched.",
            needs=("userId", "itemId"),
            leaves_out="Watch",
            items=True,
        ),
        UseCase(
            name="aws-vod-most-popular",
            domain="VIDEO_ON_DEMAND",
            base="aws-popularity-count",
            description="Most popular: the titles that most people watched.",
            needs=("userId",),
            event_type="Watch",
        ),
        UseCase(
            name="aws-vod-trending-now",
            domain="VIDEO_ON_DEMAND",
            base="aws-trending-now",
            description="Trending now: the titles whose use grows fastest.",
            needs=(),
        ),
        UseCase(
            name="aws-vod-top-picks",
            domain="VIDEO_ON_DEMAND",
            base="aws-user-personalization-v2",
            description="Top picks for you: personal, without what the user has watched.",
            needs=("userId",),
            leaves_out="Watch",
            explores=True,
        ),
    )
}
