"""References of our own and models of open libraries behind one call: fit on Interactions, score histories.

The libraries live in an environment of their own (torch first: ``pip install torch==2.13.0``, then the packages of
``PACKAGES``); whichever is not installed raises ModuleNotFoundError.  Each model has the settings its authors or
documentation recommend, the references those that were best on validation data of MovieLens 1M.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import pandas as pd
import scipy.sparse as sparse
import torch

from lib.data.datasets import Catalogue, Datasets, Histories, History, catalogue, histories
from lib.recipes import transitions
from lib.recipes.recipe import Request

SEED = 20
FACTORS, ITERATIONS, REGULARISATION, CONFIDENCE = 64, 15, 0.1, 10.0  # of matrix factorisations
NEIGHBOURS = 100
RIDGE = 250.0  # of EASE
SECONDS = 300  # of processor time that transformers and recurrent networks of libraries may train
LENGTH = 100  # events of a history that RecTools' see; RecBole's see 50
OLD_NAMES = {"bool8": np.bool_, "complex_": np.complex128, "float_": np.float64, "unicode_": np.str_}  # RecBole's

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


def _rectools(kind: str) -> Callable[[Histories, Catalogue], Scorer]:
    """RecTools' SASRec with a softmax over all items, or its eSASRec (LiGR blocks, sampled softmax; RecSys 2025)."""

    def fitted(done: Histories, numbers: Catalogue) -> Scorer:
        import pytorch_lightning as lightning
        from rectools.dataset import Dataset
        from rectools.models import SASRecModel
        from rectools.models.nn.transformers.ligr import LiGRLayers

        lightning.seed_everything(SEED, verbose=False)
        end = process_time() + SECONDS

        class Budget(lightning.Callback):
            def on_train_batch_end(self, trainer: lightning.Trainer, *rest: object) -> None:
                trainer.should_stop = process_time() > end

        trainer = lightning.Trainer(
            max_epochs=200, callbacks=[Budget()], enable_checkpointing=False, logger=False, accelerator="cpu",
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        own = {"loss": "softmax"}
        if kind == "eSASRec":
            own = {"loss": "sampled_softmax", "n_negatives": 256, "transformer_layers_type": LiGRLayers}
        model = SASRecModel(
            n_factors=FACTORS, n_blocks=2, n_heads=2, session_max_len=LENGTH, batch_size=128, lr=1e-3,
            dropout_rate=0.2, recommend_torch_device="cpu", get_trainer_func=lambda: trainer, **own,
        )  # fmt: skip
        user = np.repeat(np.arange(len(done.user_ids)), np.diff(done.offsets))
        model.fit(Dataset.construct(_events(user, done.items)))
        _say(f"RecTools {kind}", model.fit_trainer.global_step / -(-len(done.user_ids) // 128))

        def score(known: list[History], users: list[str]) -> np.ndarray:
            rows = np.repeat(np.arange(len(known)), [len(past.items) for past in known])
            asked = Dataset.construct(_events(rows, np.concatenate([past.items for past in known])))
            found = model.recommend(users=np.arange(len(known)), dataset=asked, k=300, filter_viewed=True)
            out = np.full((len(known), len(numbers.item_ids)), -np.inf, np.float32)
            out[found["user_id"], found["item_id"]] = found["score"]
            return out

        return score

    return fitted


def _events(user: np.ndarray, item: np.ndarray) -> pd.DataFrame:
    place = pd.Series(user).groupby(user).cumcount().to_numpy()
    time = pd.to_datetime("2000-01-01") + pd.to_timedelta(place, unit="s")
    return pd.DataFrame({"user_id": user, "item_id": item, "weight": 1.0, "datetime": time})


def _recbole(kind: str) -> Callable[[Histories, Catalogue], Scorer]:
    """RecBole's own training loop with its default settings, every prefix of a history a sample."""

    def fitted(done: Histories, numbers: Catalogue) -> Scorer:
        for name, value in OLD_NAMES.items():
            if not hasattr(np, name):
                setattr(np, name, value)
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.data.interaction import Interaction
        from recbole.utils import get_model, get_trainer, init_seed

        with TemporaryDirectory() as folder, chdir(folder):  # it writes logs where it stands
            (Path(folder) / "events").mkdir()
            user = np.repeat(np.arange(len(done.user_ids)), np.diff(done.offsets))
            rows = {"user_id:token": user, "item_id:token": done.items, "timestamp:float": np.arange(len(user))}
            pd.DataFrame(rows).to_csv(Path(folder) / "events" / "events.inter", sep="\t", index=False)
            settings = {
                "data_path": folder, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "seed": SEED,
                "use_gpu": False, "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "mode": "full"},
                "train_neg_sample_args": None, "loss_type": "CE", "show_progress": False, "state": "ERROR",
                "checkpoint_dir": folder,
            }  # fmt: skip
            config = Config(model=kind, dataset="events", config_dict=settings)
            init_seed(SEED, True)
            dataset = create_dataset(config)
            train, _, _ = data_preparation(config, dataset)
            model = get_model(kind)(config, train._dataset)
            trainer = get_trainer(config["MODEL_TYPE"], kind)(config, model)
        part = _Part(train, process_time() + SECONDS)
        epoch = 0
        while process_time() < part.end:
            trainer._train_epoch(part, epoch, show_progress=False)
            epoch += 1
        model.eval()
        _say(f"RecBole {kind}", part.steps / len(train))
        tokens = dataset.field2id_token["item_id"]
        place = np.zeros(len(numbers.item_ids), np.int64)
        place[tokens[1:].astype(np.int64)] = np.arange(1, len(tokens))
        length = config["MAX_ITEM_LIST_LENGTH"]

        def score(known: list[History], users: list[str]) -> np.ndarray:
            newest = [place[past.items[-length:]] for past in known]
            items = np.stack([np.pad(items, (0, length - len(items))) for items in newest])
            sizes = torch.tensor([max(1, len(items)) for items in newest])
            asked = Interaction({model.ITEM_SEQ: torch.from_numpy(items), model.ITEM_SEQ_LEN: sizes})
            with torch.inference_mode():
                found = model.full_sort_predict(asked).view(len(known), -1).numpy()
            return np.where(place > 0, found[:, place], -np.inf)

        return score

    return fitted


class _Part:
    """The batches of a loader until this process has used so much processor time."""

    def __init__(self, loader: object, end: float):
        self.loader, self.end, self.steps = loader, end, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[object]:
        for batch in self.loader:
            if process_time() > self.end:
                return
            self.steps += 1
            yield batch


def _say(name: str, epochs: float) -> None:
    print(f"{name}: {epochs:.2f} epochs in {SECONDS} CPU s", flush=True)


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
    "RecTools SASRec": _rectools("SASRec"),
    "RecTools eSASRec": _rectools("eSASRec"),
    "RecBole SASRec": _recbole("SASRec"),
    "RecBole GRU4Rec": _recbole("GRU4Rec"),
}
PACKAGES = {name: {"RecTools": "rectools[torch]"}.get(name.split()[0], name.split()[0].lower()) for name in MODELS}
