"""Where items stand: factors of which items users take shortly after one another."""

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
