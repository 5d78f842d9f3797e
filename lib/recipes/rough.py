"""Products with a large table of vectors at a quarter of the memory they cost in full: a byte for each number.

What is read decides how long a product with a million vectors takes.  The vectors are scaled so that the largest number
of each is 127; the products are off by a hundredth of their spread, which the best of them, taken again in full, shed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

STEP = 16  # numbers that torch's product of bytes reads at once: widths are made up to a multiple


@dataclass(frozen=True, slots=True)
class Rough:
    """A table of vectors.  codes: (I, D made up with 0) int8.  scale: (I,) bfloat16."""

    codes: Tensor
    scale: Tensor

    @classmethod
    def of(cls, table: Tensor) -> "Rough":
        """table: (I, D) float32."""
        scale = (table.abs().amax(dim=1).clamp(min=1e-12) / 127).bfloat16()
        codes = (table / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
        return cls(F.pad(codes, (0, -table.size(1) % STEP)).contiguous(), scale)

    def products(self, places: Tensor) -> np.ndarray:
        """(B, D) float32 -> (B, I) float32; a row is the same whatever rows are asked beside it."""
        places = F.pad(places, (0, self.codes.size(1) - places.size(1))).bfloat16()
        out = torch.empty(len(places), len(self.codes))
        for row, place in zip(out, places):
            row.copy_(torch._weight_int8pack_mm(place[None], self.codes, self.scale)[0])
        return out.numpy()
