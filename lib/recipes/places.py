"""Where items stand: which items users take shortly after one another, the strongest of these, and factors."""

import numpy as np
import scipy.sparse as sparse

from lib.data.datasets import Histories

ROWS_AT_ONCE = 4_096


def steps(histories: Histories, n_items: int, near: int, nearness: float) -> sparse.csr_matrix:
    """(I, I) float32: how often i came before j, up to ``near`` events apart, each event taking off its share."""
    user = np.repeat(np.arange(len(histories.user_ids)), np.diff(histories.offsets))
    out = sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    for gap in range(1, near + 1):
        pair = np.flatnonzero(user[gap:] == user[:-gap])
        ends = (histories.items[pair], histories.items[pair + gap])
        out += sparse.csr_matrix((np.full(len(pair), nearness ** (gap - 1), np.float32), ends), out.shape)
    out.setdiag(0)
    out.eliminate_zeros()
    return out


def without_repeats(done: Histories) -> Histories:
    """Events of the item of the event before, such as a click and a purchase, as one."""
    user = np.repeat(np.arange(len(done.user_ids)), np.diff(done.offsets))
    kept = np.ones(len(user), bool)
    kept[1:] = (done.items[1:] != done.items[:-1]) | (user[1:] != user[:-1])
    offsets = np.concatenate([[0], np.cumsum(kept)])[done.offsets]
    return Histories(done.user_ids, offsets, done.items[kept], done.times[kept], done.event_types[kept])


def strongest(strengths: np.ndarray, columns: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """The strongest of an item's others, in catalogue order; of equal ones those that come first in it.

    strengths: (n,) float32 >= 0 of the items at columns (n,).  Returns both of at most ``kept``, all above 0.
    """
    used = strengths > 0
    if len(strengths) > kept:
        used &= strengths >= np.partition(strengths, len(strengths) - kept)[len(strengths) - kept]
    strengths, columns = strengths[used], columns[used]
    order = np.lexsort((columns, -strengths))[:kept]
    order = order[np.argsort(columns[order])]
    return strengths[order], columns[order]


def gathered(rows: list[tuple[np.ndarray, np.ndarray]]) -> sparse.csr_matrix:
    """(I, I) float32: the others of each item as strengths and columns."""
    offsets = np.concatenate([[0], np.cumsum([len(columns) for _, columns in rows])])
    strengths, columns = (np.concatenate(parts) for parts in zip(*rows))
    return sparse.csr_matrix((strengths, columns, offsets), (len(rows), len(rows)), np.float32)


def factors(steps: sparse.csr_matrix, dim: int) -> np.ndarray:
    """(I, at most D) float32 of the positive pointwise mutual information (Levy & Goldberg, NIPS 2014)."""
    together = (steps + steps.T).tocsr()
    count = np.asarray(together.tocoo(copy=False).sum(axis=1)).ravel() + 1
    total, ends = count.sum(), together.indptr
    information, kept = together.data, np.zeros(len(together.data), bool)
    for begin in range(0, len(count), ROWS_AT_ONCE):  # there are some hundred times as many pairs as items
        some = slice(ends[begin], ends[min(begin + ROWS_AT_ONCE, len(count))])
        sizes = np.diff(ends[begin : begin + ROWS_AT_ONCE + 1])
        own = np.repeat(count[begin : begin + ROWS_AT_ONCE], sizes)
        information[some] = np.log(information[some] * total / (own * count[together.indices[some]]))
        kept[some] = information[some] > 0
    pairs = (information[kept], together.indices[kept], np.concatenate([[0], np.cumsum(kept)])[ends])
    del together, information
    return reduced(sparse.csr_matrix(pairs, steps.shape), dim)


def reduced(matrix: sparse.csr_matrix, dim: int) -> np.ndarray:
    """(N, at most D) float32: the strongest directions of the rows, each by the root of its strength."""
    from sklearn.utils.extmath import randomized_svd

    rank = min(dim, min(matrix.shape) - 1)
    if rank < 1 or not matrix.nnz:
        return np.zeros((matrix.shape[0], 0), np.float32)
    left, strength, _ = randomized_svd(matrix, rank, random_state=0)  # signs are settled by svd_flip
    return (left * np.sqrt(strength)).astype(np.float32)
