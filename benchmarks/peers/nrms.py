"""NRMS (Wu et al., EMNLP 2019): news by their titles' words, readers by what they read, both through self-attention.

Small enough for two cores: word vectors are learnt with the rest, not taken from elsewhere.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORDS, HISTORY, NEGATIVES = 20, 30, 4  # words of a title, articles of a reader, articles passed over for each one read
DIM, HEADS, DROPOUT = 96, 6, 0.2
MIN_COUNT = 2  # titles that a word must be in
BATCH, LEARNING_RATE = 64, 1e-3


class Pooled(nn.Module):
    """Self-attention over a sequence, then its weighted mean.  (B, T, D), (B, T) bool -> (B, D)"""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.hidden, self.query = nn.Linear(dim, dim), nn.Linear(dim, 1, bias=False)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None]).transpose(1, 2).flatten(-2)
        weight = self.query(torch.tanh(self.hidden(x))).squeeze(-1).masked_fill(~there, -1e9).softmax(-1)
        return (weight[:, None] @ x).squeeze(1)


class NRMS(nn.Module):
    """Scores of candidates for readers.  words: (I + 1, T) codes of titles, 0 for none; the last row is no article."""

    def __init__(self, words: Tensor, n_words: int):
        super().__init__()
        self.register_buffer("words", words)
        self.word = nn.Embedding(n_words + 1, DIM, padding_idx=0)
        self.title, self.reader = Pooled(DIM, HEADS), Pooled(DIM, HEADS)

    def articles(self, rows: Tensor) -> Tensor:
        words = self.words[rows]
        there = words > 0
        there[:, 0] = True
        return self.title(F.dropout(self.word(words), DROPOUT, self.training), there)

    def readers(self, read: Tensor, there: Tensor) -> Tensor:
        there = there.clone()
        there[:, 0] = True
        return self.reader(F.dropout(read, DROPOUT, self.training), there)


def fit(
    titles: Sequence[str],
    histories: Sequence[np.ndarray],
    shown: Sequence[np.ndarray],
    clicked: Sequence[np.ndarray],
    *,
    epochs: int,
    seed: int,
) -> NRMS:
    """Learn to tell what was read from what was passed over; the last tenth of the impressions says when to stop.

    titles: of I articles.  Then one entry an impression, ordered by time: articles read before, articles shown, and for
    each of these (bool) whether it was read.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = NRMS(*_words(titles))
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    nobody = len(titles)
    samples = [(n, read) for n, taken in enumerate(clicked) if not taken.all() for read in shown[n][taken]]
    cut = int(0.9 * len(samples))
    last = range(samples[cut][0], len(shown))
    best, weights = -np.inf, network.state_dict()
    for _ in range(epochs):
        network.train()
        order = rng.permutation(cut)
        for begin in range(0, cut, BATCH):
            rows = [samples[n] for n in order[begin : begin + BATCH]]
            passed = [rng.choice(shown[n][~clicked[n]], NEGATIVES) for n, _ in rows]
            candidates = np.array([[read, *others] for (_, read), others in zip(rows, passed)])
            read = _padded([histories[n] for n, _ in rows], nobody)
            needed, place = np.unique(np.concatenate([candidates.ravel(), read.ravel()]), return_inverse=True)
            table = network.articles(torch.from_numpy(needed))
            place = torch.from_numpy(place)
            ahead, behind = place[: candidates.size].view(candidates.shape), place[candidates.size :].view(read.shape)
            reader = network.readers(table[behind], torch.from_numpy(read != nobody))
            logits = (table[ahead] @ reader[:, :, None]).squeeze(-1)
            loss = F.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.long))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        found = scores(network, [histories[n] for n in last], [shown[n] for n in last])
        ranks = [1 / (1 + (s > s[taken].max()).sum()) for s, taken in zip(found, clicked[last.start :]) if taken.any()]
        if np.mean(ranks) > best:
            best = np.mean(ranks)
            weights = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    return network.eval()


def scores(network: NRMS, histories: Sequence[np.ndarray], shown: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The scores of the articles shown in each impression."""
    network.eval()
    nobody = len(network.words) - 1
    with torch.inference_mode():
        rows = np.unique(np.concatenate([*shown, *histories, np.array([nobody])]))
        table = torch.zeros(nobody + 1, DIM)
        for begin in range(0, len(rows), 2_048):
            some = torch.from_numpy(rows[begin : begin + 2_048])
            table[some] = network.articles(some)
        out = []
        for begin in range(0, len(shown), 256):
            read = _padded(histories[begin : begin + 256], nobody)
            readers = network.readers(table[torch.from_numpy(read)], torch.from_numpy(read != nobody))
            out += [(table[torch.from_numpy(s)] @ r).numpy() for s, r in zip(shown[begin : begin + 256], readers)]
    return out


def _words(titles: Sequence[str]) -> tuple[Tensor, int]:
    split = [re.findall(r"[a-z0-9]+", str(title).lower())[:WORDS] for title in titles]
    counts = Counter(word for words in split for word in set(words))
    code = {word: n + 1 for n, word in enumerate(sorted(w for w, c in counts.items() if c >= MIN_COUNT))}
    out = np.zeros((len(titles) + 1, WORDS), np.int64)
    for row, words in zip(out, split):
        row[: len(words)] = [code.get(word, 0) for word in words]
    return torch.from_numpy(out), len(code)


def _padded(histories: Sequence[np.ndarray], nobody: int) -> np.ndarray:
    out = np.full((len(histories), HISTORY), nobody, np.int64)
    for row, read in zip(out, histories):
        newest = read[-HISTORY:]
        row[: len(newest)] = newest
    return out
