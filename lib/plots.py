"""The figures of the notebooks: each function draws one thing on the axes it is given.

Titles say what is drawn, axes carry units, colours stay apart for colour-blind readers and in grey print.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.load import Measurement

BLUE, ORANGE, GREY = "#20639b", "#d9772b", "#8a8f98"
PALETTE = (BLUE, ORANGE, "#3caea3", "#a23b72", "#6b8e23", "#c9a227", "#7768ae", "#b0413e", "#4f5d75", "#2d936c", GREY)
BRIEF = 50  # first visits of an arm, whose mean says nothing yet
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


def figure(columns: int = 1, height: float = 2.5) -> tuple[Figure, Axes | np.ndarray]:
    """A figure 5 inches wide at 80 dots an inch in the house's style, with one or more axes side by side."""
    plt.rcParams.update(STYLE)
    return plt.subplots(1, columns, figsize=(5, height), dpi=80)


def long_tail(ax: Axes, counts: np.ndarray) -> None:
    """Share of all interactions that the most popular items hold.  counts: (I,) interactions of each item."""
    ordered = np.sort(counts)[::-1]
    share = np.concatenate([[0], ordered.cumsum() / max(ordered.sum(), 1)])
    ax.plot(np.linspace(0, 100, len(share)), 100 * share, color=BLUE)
    ax.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1)
    ax.set(title="Long tail", xlabel="most popular items (%)", ylabel="interactions (%)")


def history_lengths(ax: Axes, lengths: np.ndarray) -> None:
    """How many users have how many interactions, on a logarithmic axis.  lengths: (U,) int >= 1."""
    edges = np.unique(np.geomspace(1, lengths.max() + 1, 25).astype(int))
    ax.hist(lengths, bins=edges, color=BLUE, edgecolor="white", linewidth=0.4)
    ax.set(title="History length", xlabel="interactions of a user", ylabel="users", xscale="log")


def activity(ax: Axes, per_day: pd.Series) -> None:
    """Interactions over time.  per_day: number of interactions, indexed by date."""
    ax.fill_between(per_day.index, per_day.to_numpy(), color=BLUE, alpha=0.35, linewidth=0)
    ax.plot(per_day.index, per_day.to_numpy(), color=BLUE, linewidth=1)
    ax.set(title="Activity over time", ylabel="interactions a day", ylim=(0, None))
    locator = ax.xaxis.get_major_locator()
    ax.xaxis.set_major_formatter(plt.matplotlib.dates.ConciseDateFormatter(locator))


def loss(ax: Axes, log: pd.DataFrame, guess: float) -> None:
    """Training loss by step.  log: columns step and loss.  guess: loss of guessing evenly among all items."""
    ax.plot(log["step"], log["loss"], color=BLUE, marker="o", markersize=3)
    ax.axhline(guess, color=GREY, linestyle="--", linewidth=1)
    ax.set(title="Training loss (dashed: guessing evenly)", xlabel="epoch", ylabel="cross-entropy (nats)")
    ax.xaxis.set_major_locator(plt.matplotlib.ticker.MaxNLocator(integer=True))


def embeddings(ax: Axes, vectors: np.ndarray, categories: Sequence[str], most: int = 8) -> None:
    """Items in the plane of their two main directions, coloured by category.

    vectors: (I, D).  categories: (I,) names; beyond the ``most`` frequent ones they share the colour of the rest.
    """
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    # A singular vector's sign is arbitrary: fix it, so that the picture is the same everywhere.
    directions = directions[:2] * np.sign(directions[:2, np.abs(directions[:2]).argmax(axis=1)].diagonal())[:, None]
    places = centred @ directions.T
    names = pd.Series(categories).fillna("(none)")
    shown = names.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:most]
    rest = ~names.isin(shown).to_numpy()
    if rest.any():
        ax.scatter(*places[rest].T, s=4, color=GREY, alpha=0.4, linewidths=0, label="others")
    for name, colour in zip(shown, PALETTE):
        ax.scatter(*places[(names == name).to_numpy()].T, s=6, color=colour, alpha=0.75, linewidths=0, label=name)
    ax.set(title="Items as the model places them", xlabel="first direction", ylabel="second direction")
    ax.set(xticks=[], yticks=[])
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)


def trials(ax: Axes, table: pd.DataFrame, metric: str) -> None:
    """Each trial's value, the best so far, and at the bottom the trials without a value.

    table: columns number, value, state.
    """
    done = table[table["state"] == "COMPLETE"]
    pruned = table["number"][table["state"] != "COMPLETE"]
    ax.scatter(done["number"], done["value"], color=BLUE, s=18, label="finished")
    if len(pruned):
        bottom = ax.get_xaxis_transform()  # x in trials, y as a share of the height
        ax.scatter(pruned, [0.04] * len(pruned), transform=bottom, color=GREY, marker="x", s=18, label="pruned")
    ax.step(done["number"], done["value"].cummax(), where="post", color=ORANGE, linewidth=1, label="best so far")
    ax.set(title="Trials", xlabel="trial", ylabel=metric)
    ax.margins(y=0.15)
    ax.xaxis.set_major_locator(plt.matplotlib.ticker.MaxNLocator(integer=True))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def importances(ax: Axes, shares: Mapping[str, float]) -> None:
    """How much of the trials' differences each hyperparameter explains.  shares: name -> share, summing to 1."""
    names = sorted(shares, key=lambda name: (shares[name], name))
    ax.barh(names, [100 * shares[name] for name in names], color=BLUE)
    ax.set(title="What mattered", xlabel="explained variance (%)", xlim=(0, 100))
    ax.grid(axis="y", visible=False)


def intervals(ax: Axes, table: pd.DataFrame, metric: str) -> None:
    """A metric with its interval by version.  table: columns mean, low, high, indexed by name, best first."""
    rows = table[::-1]
    around = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
    ax.errorbar(rows["mean"], range(len(rows)), xerr=around, fmt="o", color=BLUE, ecolor=GREY, capsize=3, markersize=5)
    ax.set_yticks(range(len(rows)), rows.index)
    ax.set(title=f"{metric} with 95 % interval", xlabel=metric, xlim=(0, None), ylim=(-0.6, len(rows) - 0.4))


def slices(ax: Axes, table: pd.DataFrame, metric: str, by: str) -> None:
    """A metric by slice and version, side by side.  table: (slices x versions) values."""
    width = 0.8 / max(table.shape[1], 1)
    for n, name in enumerate(table.columns):
        left = np.arange(len(table)) + (n - (table.shape[1] - 1) / 2) * width
        ax.bar(left, table[name], width, color=PALETTE[n % len(PALETTE)], label=name)
    ax.set_xticks(range(len(table)), table.index)
    ax.set(title=f"{metric} by {by}", ylabel=metric, xlabel=by)
    ax.grid(axis="x", visible=False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def reliability(ax: Axes, table: pd.DataFrame) -> None:
    """Chance given against share that came, on logarithmic axes with a place for none that came.

    table: columns chance, came_next, low, high.
    """
    around = np.abs(table[["low", "high"]].to_numpy().T - table["came_next"].to_numpy())
    ends = [table["chance"].min() / 2, min(1.0, table["chance"].max() * 2)]
    ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
    look = {"fmt": "o", "color": BLUE, "ecolor": GREY, "markersize": 4, "clip_on": False}
    ax.errorbar(table["chance"], table["came_next"], yerr=around, **look)
    ax.set(title="Chance given and share that came (dashed: equal)", xscale="log")
    ax.set_yscale("symlog", linthresh=max(ends[0], 1e-6))
    ax.set_ylim(0, None)
    ax.set(xlabel="chance that the model gave", ylabel="share that came next")


def visits(axes: Sequence[Axes], visited: pd.DataFrame, new_items: Sequence[str]) -> None:
    """Share of the clicks of the best lists that an arm's lists missed until then, and its clicks on new items.

    axes: two.  visited: columns arm, expected, best, clicked, as ``lib.replay.replay`` gives them.
    """
    left, right = axes
    new = set(new_items)
    for colour, (arm, part) in zip(PALETTE, visited.groupby("arm", sort=True)):
        visit = np.arange(1, len(part) + 1)
        found = [sum(item in new for item in clicked) for clicked in part["clicked"]]
        missed = 100 * (1 - part["expected"].cumsum() / part["best"].cumsum())
        left.plot(visit[BRIEF:], missed[BRIEF:], color=colour, label=arm)
        right.plot(visit, np.cumsum(found), color=colour, label=arm)
    left.set(title="Regret", xlabel="visit", ylabel="of the best lists' clicks (%)")
    right.set(title="Clicks on new items", xlabel="visit", ylabel="clicks")
    left.legend()


def latency(axes: Sequence[Axes], measured: Mapping[str, Mapping[int, Measurement]]) -> None:
    """Latency and throughput under load, on logarithmic axes.

    axes: two.  measured: what was asked -> clients -> ``lib.load.Measurement``.
    """
    left, right = axes
    for (asked, of_clients), colour in zip(measured.items(), PALETTE):
        places, values = range(len(of_clients)), of_clients.values()
        for percentile, line in ((50, "o-"), (99, "o--")):
            within = [each.percentile(percentile) for each in values]
            left.plot(places, within, line, markersize=4, color=colour)
        right.plot(places, [each.requests_per_second for each in values], "o-", markersize=4, color=colour, label=asked)
        for ax in axes:
            ax.set_xticks(places, of_clients)
    left.set(title="Latency: p50, dashed p99", xlabel="clients at once", ylabel="milliseconds")
    right.set(title="Throughput", xlabel="clients at once", ylabel="requests a second")
    for ax in axes:
        ax.set(yscale="log")
        ax.yaxis.set_major_locator(plt.matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:,g}")
        ax.yaxis.set_minor_locator(plt.matplotlib.ticker.NullLocator())
    right.legend()


def composition(ax: Axes, lists: Mapping[str, Sequence[str]], most: int = 7) -> None:
    """What recommendation lists are made of.  lists: moment -> the category of each recommended item, in order."""
    table = pd.DataFrame({moment: pd.Series(names).value_counts() for moment, names in lists.items()}).fillna(0)
    order = table.sum(axis=1).sort_index().sort_values(ascending=False, kind="stable").index
    shown = table.loc[order[:most]]
    if len(order) > most:
        shown = pd.concat([shown, table.loc[order[most:]].sum().to_frame("others").T])
    bottom = np.zeros(shown.shape[1])
    for colour, (name, row) in zip([*PALETTE[:most], GREY], shown.iterrows()):
        ax.bar(shown.columns, row, 0.6, bottom=bottom, color=colour, label=name)
        bottom += row.to_numpy()
    ax.set(title="Categories of the recommended items", ylabel="items")
    ax.grid(axis="x", visible=False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
