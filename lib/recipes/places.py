"""Where items stand: factors of which items users take shortly after one another."""

import numpy as np
import scipy.sparse as sparse

from lib.data.datasets import Histories


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
    together = (steps + steps.T).tocoo()
    count = np.asarray(together.sum(axis=1)).ravel() + 1
    information = np.log(together.data * count.sum() / (count[together.row] * count[together.col]))
    positive = information > 0
    pairs = (together.row[positive], together.col[positive])
    return reduced(sparse.csr_matrix((information[positive].astype(np.float32), pairs), steps.shape), dim)


def reduced(matrix: sparse.csr_matrix, dim: int) -> np.ndarray:
    """(N, at most D) float32: the strongest directions of the rows, each by the root of its strength."""
    from sklearn.utils.extmath import randomized_svd

    rank = min(dim, min(matrix.shape) - 1)
    if rank < 1 or not matrix.nnz:
        return np.zeros((matrix.shape[0], 0), np.float32)
    left, strength, _ = randomized_svd(matrix, rank, random_state=0)  # signs are settled by svd_flip
    return (left * np.sqrt(strength)).astype(np.float32)
