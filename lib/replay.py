"""A live site whose readers' tastes are known: they see what is recommended, and click as they would.

It tells what no log of the past can: what people would have done with lists that nobody showed them, and how far these
were from the best there could be.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.data.simulator import POSITION, Truth

Ask = Callable[[str], tuple[str, Sequence[str]]]  # user id -> recommendation id, item ids
Report = Callable[[str, str, Sequence[str], Sequence[str], int], None]
"""user id, recommendation id, item ids that were shown, those clicked, epoch seconds"""


def replay(
    truth: Truth,
    read: Mapping[str, Sequence[str]],
    arms: Mapping[str, Ask],
    report: Report,
    *,
    places: int,
    visits: int,
    since: int,
    until: int,
    seed: int,
) -> pd.DataFrame:
    """Let readers visit, each always sent to the same arm; one row a visit, in the order of time.

    read: what each reader had read before, item ids oldest first; those without an entry do not visit.  arms: name ->
    what is asked for a list of ``places`` items.  since, until: epoch seconds between which the visits spread evenly.
    An arm is told of clicks at once, and of nothing where there are none, as by PutEvents.

    Columns: arm, user, time; recommendation: its id; shown, clicked: item ids; expected: clicks to be expected from
    the list; best: from the best list there could have been at that moment.
    """
    rng = np.random.default_rng(seed)
    readers = rng.permutation(np.array([user for user in truth.user_ids if user in read]))
    names = list(arms)
    known = {user: list(read[user]) for user in readers}
    rows = []
    for visit in range(visits):
        place = int(rng.integers(len(readers)))
        user, arm = str(readers[place]), names[place % len(names)]
        time = since + (until - since) * visit // visits
        recommendation_id, shown = arms[arm](user)
        asked = [user], np.array([time])
        chance = truth.chance(*asked, truth.item_ids, [known[user]])[0]
        clicked = truth.clicks(*asked, [shown], [known[user]], rng)[0]
        chosen = [item for item, on in zip(shown, clicked) if on]
        rows.append(
            {
                "arm": arm,
                "user": user,
                "time": time,
                "recommendation": recommendation_id,
                "shown": list(shown),
                "clicked": chosen,
                "expected": float(truth.chance(*asked, shown, [known[user]])[0] @ POSITION ** np.arange(len(shown))),
                "best": float(np.sort(chance)[::-1][:places] @ POSITION ** np.arange(places)),
            }
        )
        if chosen:
            report(user, recommendation_id, shown, chosen, time)
            known[user] += chosen
    return pd.DataFrame(rows)


def outcome(visited: pd.DataFrame, new_items: Sequence[str]) -> pd.DataFrame:
    """What a replay came to; index arm.

    visits; clicks: a visit; share_of_best: expected clicks of what was shown, of those of the best lists; new_shown:
    share of places that new items had; new_clicks: share of clicks that went to them; discovered: how many of them
    were clicked at all.
    """
    new = set(new_items)
    rows = {}
    for arm, part in visited.groupby("arm", sort=False):
        shown, clicked = part["shown"].explode().dropna(), part["clicked"].explode().dropna()
        rows[arm] = {
            "visits": len(part),
            "clicks": len(clicked) / len(part),
            "share_of_best": part["expected"].sum() / part["best"].sum(),
            "new_shown": shown.isin(new).mean(),
            "new_clicks": clicked.isin(new).mean() if len(clicked) else 0.0,
            "discovered": clicked[clicked.isin(new)].nunique(),
        }
    return pd.DataFrame(rows).T.astype({"visits": int, "discovered": int})
