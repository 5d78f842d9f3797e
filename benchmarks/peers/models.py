"""References of our own and models of open libraries behind one call: fit on Interactions, score histories.

The libraries live in an environment of their own (torch first: ``pip install torch==2.13.0``, then the packages of
``PACKAGES``); whichever is not installed raises ModuleNotFoundError.  Each model has the settings its authors or
documentation recommend, the references those that were best on validation data of MovieLens 1M.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib.data.datasets import Catalogue, Datasets, Histories, History, catalogue, histories
from lib.recipes import transitions
from lib.recipes.recipe import Request

SEED = 20
FACTORS, ITERATIONS, REGULARISATION, CONFIDENCE = 64, 15, 0.1, 10.0  # of matrix factorisations
NEIGHBOURS = 100
RIDGE = 250.0  # of EASE
SECONDS = 300  # of training at most, for the transformers and recurrent networks of libraries
LENGTH = 100  # events of a history that these see

Scorer = Callable[[list[History], list[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Stranger:
    """A model as ``lib.evaluation`` asks it, about users it has not trained on."""

    catalogue: Catalogue
    score: Scorer

    def scores(self, requests: Sequence[Request]) -> np.ndarray:
        return np.asarray(self.score([request.history for request in requests], [""] * len(requests)), np.float32)


def fit(name: str, datasets: Datasets) -> tuple[Scorer, Catalogue]:
    """A scorer ((B, I) for histories and their users' ids), and the catalogue of its items."""
    numbers = catalogue(Datasets(interactions=datasets.interactions))
    return MODELS[name](histories(datasets.interactions, numbers), numbers), numbers


def matrix(done: Histories, n_items: int) -> sparse.csr_matrix:
    """(U, I) float32: 1 for what a user has."""
    out = sparse.csr_matrix(
        (np.ones(len(done.items), np.float32), done.items, done.offsets), (len(done.user_ids), n_items)
    )
    out.sum_duplicates()
    out.data[:] = 1
    return out


def _profiles(known: list[History], n_items: int) -> sparse.csr_matrix:
    offsets = np.concatenate([[0], np.cumsum([len(past.items) for past in known])])
    items = np.concatenate([past.items for past in known])
    out = sparse.csr_matrix((np.ones(len(items), np.float32), items, offsets), (len(known), n_items))
    out.sum_duplicates()
    out.data[:] = 1
    return out


def popularity(done: Histories, numbers: Catalogue) -> Scorer:
    """By the users of each item."""
    users = np.asarray(matrix(done, len(numbers.item_ids)).sum(axis=0), dtype=np.float32)
    return lambda known, users_asked: np.repeat(users, len(known), axis=0)


def ease(done: Histories, numbers: Catalogue) -> Scorer:
    """EASE (Steck, WWW 2019): a linear model of items by items in closed form."""
    users_items = matrix(done, len(numbers.item_ids))
    gram = (users_items.T @ users_items).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += RIDGE
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return lambda known, users: _profiles(known, len(weights)) @ weights


def slist(done: Histories, numbers: Catalogue) -> Scorer:
    """SLIST (Choi et al., WWW 2021), the closed form that the workbook's own recipe blends in, alone."""
    closed = transitions.fit(done, len(numbers.item_ids), decay=0.82, future=0.37, ridge=200.0, alpha=0.1)
    return lambda known, users: closed.scores(known)


def _implicit_neighbours(kind: str) -> Callable[[Histories, Catalogue], Scorer]:
    def fitted(done: Histories, numbers: Catalogue) -> Scorer:
        from implicit import nearest_neighbours

        model = getattr(nearest_neighbours, kind)(K=NEIGHBOURS, num_threads=2)
        model.fit(matrix(done, len(numbers.item_ids)), show_progress=False)
        similar = model.similarity.tocsr()
        return lambda known, users: (_profiles(known, similar.shape[0]) @ similar).toarray()

    return fitted


def implicit_als(done: Histories, numbers: Catalogue) -> Scorer:
    """Alternating least squares; a history is folded in."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=FACTORS, regularization=REGULARISATION, alpha=CONFIDENCE, iterations=ITERATIONS, num_threads=2,
        random_state=SEED,
    )  # fmt: skip
    model.fit(matrix(done, len(numbers.item_ids)), show_progress=False)

    def score(known: list[History], users: list[str]) -> np.ndarray:
        folded = model.recalculate_user(np.arange(len(known)), _profiles(known, len(numbers.item_ids)))
        return np.asarray(folded) @ model.item_factors.T

    return score


def implicit_bpr(done: Histories, numbers: Catalogue) -> Scorer:
    """Pairwise ranking; users it does not know get the mean of their items."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(
        factors=FACTORS, learning_rate=0.05, regularization=0.01, iterations=100, num_threads=2, random_state=SEED
    )
    model.fit(matrix(done, len(numbers.item_ids)), show_progress=False)
    place = {user: n for n, user in enumerate(done.user_ids)}

    def score(known: list[History], users: list[str]) -> np.ndarray:
        factors = np.zeros((len(known), model.item_factors.shape[1]), np.float32)
        for row, past, user in zip(factors, known, users):
            if user in place:
                row[:] = model.user_factors[place[user]]
            elif len(past.items):
                row[:] = model.item_factors[past.items].mean(axis=0)
                row[-1] = 1  # of the item's bias
        return factors @ model.item_factors.T

    return score


def _lenskit(kind: str) -> Callable[[Histories, Catalogue], Scorer]:
    def fitted(done: Histories, numbers: Catalogue) -> Scorer:
        from lenskit.als import ImplicitMFScorer
        from lenskit.data import ItemList, RecQuery, from_interactions_df
        from lenskit.knn import ItemKNNScorer
        from lenskit.training import TrainingOptions

        user = np.repeat(np.arange(len(done.user_ids)), np.diff(done.offsets))
        pairs = pd.DataFrame({"user_id": user, "item_id": done.items}).drop_duplicates()
        if kind == "als":
            model = ImplicitMFScorer(
                embedding_size=FACTORS, epochs=ITERATIONS, regularization=REGULARISATION, weight=CONFIDENCE
            )
        else:
            model = ItemKNNScorer(max_nbrs=20, save_nbrs=200, feedback="implicit")
        model.train(from_interactions_df(pairs), TrainingOptions(rng=SEED))
        everything = ItemList(item_ids=np.arange(len(numbers.item_ids)))

        def score(known: list[History], users: list[str]) -> np.ndarray:
            out = np.full((len(known), len(numbers.item_ids)), -np.inf, np.float32)
            for row, past in zip(out, known):
                query = RecQuery(user_items=ItemList(item_ids=np.unique(past.items)))
                found = model(query=query, items=everything).scores()
                row[:] = np.nan_to_num(found, nan=-1e9)
            return out

        return score

    return fitted


def rectools_sasrec(done: Histories, numbers: Catalogue) -> Scorer:
    """RecTools' SASRec with a softmax over all items, as long as ``SECONDS`` allow."""
    import pytorch_lightning as lightning
    from pytorch_lightning.callbacks import Timer
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    lightning.seed_everything(SEED, verbose=False)

    def trainer() -> "lightning.Trainer":
        return lightning.Trainer(
            max_epochs=200, callbacks=[Timer(duration=timedelta(seconds=SECONDS))], enable_checkpointing=False,
            logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip

    model = SASRecModel(
        n_factors=FACTORS, n_blocks=2, n_heads=2, session_max_len=LENGTH, loss="softmax", batch_size=128, lr=1e-3,
        dropout_rate=0.2, dataloader_num_workers=0, recommend_torch_device="cpu", get_trainer_func=trainer,
    )  # fmt: skip
    user = np.repeat(np.arange(len(done.user_ids)), np.diff(done.offsets))
    model.fit(Dataset.construct(_events(user, done.items)))

    def score(known: list[History], users: list[str]) -> np.ndarray:
        rows = np.repeat(np.arange(len(known)), [len(past.items) for past in known])
        asked = Dataset.construct(_events(rows, np.concatenate([past.items for past in known])))
        found = model.recommend(users=np.arange(len(known)), dataset=asked, k=300, filter_viewed=True)
        out = np.full((len(known), len(numbers.item_ids)), -np.inf, np.float32)
        out[found["user_id"], found["item_id"]] = found["score"]
        return out

    return score


def _events(user: np.ndarray, item: np.ndarray) -> pd.DataFrame:
    place = pd.Series(user).groupby(user).cumcount().to_numpy()
    time = pd.to_datetime("2000-01-01") + pd.to_timedelta(place, unit="s")
    return pd.DataFrame({"user_id": user, "item_id": item, "weight": 1.0, "datetime": time})


MODELS: dict[str, Callable[[Histories, Catalogue], Scorer]] = {
    "popularity": popularity,
    "EASE": ease,
    "SLIST": slist,
    "implicit cosine": _implicit_neighbours("CosineRecommender"),
    "implicit BM25": _implicit_neighbours("BM25Recommender"),
    "implicit ALS": implicit_als,
    "implicit BPR": implicit_bpr,
    "LensKit ALS": _lenskit("als"),
    "LensKit item kNN": _lenskit("item knn"),
    "RecTools SASRec": rectools_sasrec,
}
PACKAGES = {name: {"i": "implicit", "L": "lenskit", "R": "'rectools[torch]'"}.get(name[0], "") for name in MODELS}
