"""How much an item is like what a user chose before: by the words of its text, by what these mean, and by categories.

Nothing is learnt but how common words and categories are, so it speaks of new items as of old ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from lib.data.datasets import Catalogue, Datasets, Histories, History
from lib.data.features import Encoded, Features

DOUBT = 0.5  # events of each category that everybody is taken to have had


@dataclass(frozen=True, slots=True)
class Likeness:
    """terms: (I, V) and by_term: (V, I) float32 CSR, term weights, of length 1 an item.

    meaning: (I, D) float32, the text's place among the directions that matter most, of length 1 or 0.
    categories: (I, C) float32 CSR.  share: (C,) float32, of all events.
    """

    terms: sparse.csr_matrix
    by_term: sparse.csr_matrix
    meaning: np.ndarray
    categories: sparse.csr_matrix
    share: np.ndarray

    def scores(self, histories: Sequence[History]) -> np.ndarray:
        r"""(3, B, I) float32: cosines of an item's text and all of the history's, and the pull of its categories.

        The first cosine is of words, the second of meaning; the pull is

        .. math:: \sum_{c \ni i} \log \frac{(n_c + d) / (\sum_{c'} n_{c'} + C d)}{share_c}
        """
        offsets = np.concatenate([[0], np.cumsum([len(past.items) for past in histories])])
        items = np.concatenate([past.items for past in histories])
        past = sparse.csr_matrix(
            (np.ones(len(items), np.float32), items, offsets), (len(histories), self.terms.shape[0])
        )
        words = past @ self.terms
        length = np.sqrt(np.asarray(words.multiply(words).sum(axis=1), dtype=np.float32))
        likeness = (words @ self.by_term).toarray() / np.maximum(length, 1e-6)
        meant = past @ self.meaning
        meant /= np.maximum(np.linalg.norm(meant, axis=1, keepdims=True), 1e-6)
        n = (past @ self.categories).toarray()
        chosen = (n + DOUBT) / (np.diff(offsets)[:, None] + DOUBT * n.shape[1])
        pull = (self.categories @ np.log(chosen / self.share).astype(np.float32).T).T
        return np.stack([likeness, meant @ self.meaning.T, pull]).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        out = {"meaning": self.meaning, "share": self.share}
        for name, matrix in (("terms", self.terms), ("categories", self.categories)):
            out |= {f"{name}.data": matrix.data, f"{name}.shape": np.array(matrix.shape, np.int64)}
            out |= {
                f"{name}.indices": matrix.indices.astype(np.int32),
                f"{name}.indptr": matrix.indptr.astype(np.int64),
            }
        return out

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray]) -> "Likeness":
        def matrix(name: str) -> sparse.csr_matrix:
            parts = (arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
            return sparse.csr_matrix(tuple(parts), tuple(arrays[f"{name}.shape"]))

        terms = matrix("terms")
        return cls(terms, terms.T.tocsr(), arrays["meaning"], matrix("categories"), arrays["share"])


def fit(known: Features, encoded: Encoded, datasets: Datasets, numbers: Catalogue, done: Histories) -> Likeness:
    """What the items' text and categories are, and how common each category is among events.

    encoded: the items' features as ``known`` reads them, in the order of the catalogue.
    """
    n_items = len(numbers.item_ids)
    terms, meaning = sparse.csr_matrix((n_items, 1), dtype=np.float32), np.zeros((n_items, 1), np.float32)
    if known.text is not None:
        texts = datasets.items.set_index("ITEM_ID")[known.text.name].reindex(numbers.item_ids)
        terms = known.text.terms_of(texts.to_numpy(dtype=object))
        meaning = np.ascontiguousarray(encoded.dense[:, -known.text.directions.shape[1] :])
    categories = encoded.categories.tocsr()
    events = np.asarray(categories[done.items].sum(axis=0), dtype=np.float64).ravel()
    share = (events + DOUBT) / (len(done.items) + DOUBT * len(events))
    return Likeness(terms, terms.T.tocsr(), meaning, categories, share.astype(np.float32))
