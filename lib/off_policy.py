r"""What another exploration weight would have brought, told from lists that one weight showed.

Every list is kept with the chance of each item to stand where it stood, given those before it.  At weight w,

.. math:: p = (1 - w) \, m + w \, d

m is 1 where the model's next best item stands and 0 elsewhere, d the chance that a draw puts the item there.  Both
follow from p as long as w is at most a half, and with them the chance under any other weight.  A click then counts
for as much more or less as its list, down to its place, would have been likelier or rarer (per-decision importance
sampling, Precup et al., ICML 2000), as a share of all that was shown there (self-normalised, Swaminathan & Joachims,
NeurIPS 2015).
"""

from collections.abc import Sequence

import numpy as np

from lib.metrics import Interval, bootstrap

MOST = 0.5  # of the weight that showed the lists: a drawn item's chance stays below that of the model's own


def clicks_at(
    propensities: Sequence[Sequence[float | None]],
    clicked: Sequence[Sequence[bool]],
    *,
    weight: float,
    wanted: float,
    seed: int,
) -> Interval:
    """Clicks a list to be expected had the weight been ``wanted``, and the interval it may as well lie in.

    propensities, clicked: one a place, for each list; lists may differ in length.  A place without a propensity is a
    promoted item's, which stands there at any weight.  weight: in (0, 0.5], at which the lists were shown.
    Raises ValueError for another weight, or where there is no list.
    """
    if not 0 < weight <= MOST:
        raise ValueError(f"weight is {weight}: what another would bring is told by lists shown at 0 < weight <= {MOST}")
    if not 0 <= wanted <= 1:
        raise ValueError(f"wanted is {wanted}, expected 0 to 1")
    if not len(propensities):
        raise ValueError("there is no list to tell from")
    chance, hit = _padded(propensities), _padded(clicked)
    shown = ~np.isnan(hit)
    by_model = chance >= 1 - weight - 1e-9
    drawn = np.clip((chance - (1 - weight) * by_model) / weight, 0, 1)
    ratio = ((1 - wanted) * by_model + wanted * drawn) / chance
    counts = np.cumprod(np.where(np.isnan(chance), 1.0, ratio), axis=1) * shown
    reached = counts.sum(axis=0)
    clicks = np.divide(
        (counts * np.nan_to_num(hit)).sum(axis=0), reached, out=np.zeros_like(reached), where=reached > 0
    )
    # A ratio of means moves with each list by what the list has beyond it (the delta method).
    lists = shown.mean(axis=0) * len(shown)
    share = np.divide(counts * lists, reached, out=np.zeros_like(counts), where=reached > 0)
    beyond = (share * (np.nan_to_num(hit) - clicks)).sum(axis=1)
    return bootstrap(beyond + (clicks * shown.mean(axis=0)).sum(), seed=seed)


def _padded(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    """(N, K) float64, NaN for None and behind a row's end."""
    out = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(out, rows):
        row[: len(values)] = [np.nan if value is None else value for value in values]
    return out
