r"""What the items of a list have in common, in a few words, and how much each of them is about it.

Words are weighed by tf-idf over all items' names and texts.  A list's theme is the words of the largest sums of these
weights over its items, those first that at least two items share; an item's relevance is the cosine of its words and
the theme's.
"""

from collections.abc import Sequence

import numpy as np

from lib.data.features import vectorizer

WORDS = 3  # of a theme
LETTERS = r"\b[^\W\d_]{2,}\b"  # a word: numbers, such as years, tell little


class Themes:
    """The words of a catalogue's items."""

    def __init__(self, item_ids: Sequence[str], names: Sequence[str], texts: Sequence[str]):
        """names, texts: of each item, empty where there is none."""
        self.names = dict(zip(item_ids, names))
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        reader = vectorizer(stop_words="english", token_pattern=LETTERS)
        try:
            self._weights = reader.fit_transform([f"{name} {text}" for name, text in zip(names, texts)])
        except ValueError:  # not one word
            self._weights = None
        else:
            self._words = reader.get_feature_names_out()

    def __call__(self, item_ids: Sequence[str]) -> tuple[str, list[float]]:
        """The theme of a list, and each item's relevance to it, from 0 to 1.

        Where no item has a word, the first one's name stands for the theme, and nothing is relevant.
        """
        rows = [self._rows.get(item_id, -1) for item_id in item_ids]
        known = [row for row in rows if row >= 0]
        told = {} if self._weights is None or not known else self._theme(known)
        if not told:
            return next((self.names[one] for one in item_ids if self.names.get(one)), ""), [0.0] * len(rows)
        length = np.sqrt(sum(weight**2 for weight in told.values()))
        relevance = (self._weights[known][:, list(told)] @ np.array(list(told.values()))) / length
        of_row = dict(zip(known, relevance.tolist()))
        phrase = ", ".join(self._words[word] for word in told)
        return phrase[:1].upper() + phrase[1:], [of_row.get(row, 0.0) for row in rows]

    def _theme(self, rows: list[int]) -> dict[int, float]:
        """Word -> its sum of weights, the most telling one first."""
        chosen = self._weights[rows].tocsc()
        words = np.flatnonzero(np.diff(chosen.indptr))
        weight = np.asarray(chosen.sum(axis=0), dtype=np.float64).ravel()[words]
        shared = np.diff(chosen.indptr)[words] >= 2
        if shared.any():
            words, weight = words[shared], weight[shared]
        best = np.lexsort((words, -weight))[:WORDS]
        return dict(zip(words[best].tolist(), weight[best].tolist()))
