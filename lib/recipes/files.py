"""A trained model as two files: its arrays (``model.safetensors``) and its settings (``model.json``)."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from lib.data.datasets import Catalogue


def write(folder: Path, catalogue: Catalogue, settings: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
    """Keep a model in a folder, which is made where it is not there; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    numbering = {"item_ids": catalogue.item_ids.tolist(), "event_types": catalogue.event_types.tolist()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    replace(folder / "model.safetensors", save(contiguous))
    replace(folder / "model.json", json.dumps({**settings, "catalogue": numbering}, sort_keys=True).encode())


def read(folder: Path) -> tuple[Catalogue, dict, dict[str, np.ndarray]]:
    """The catalogue, settings and arrays that ``write`` kept."""
    settings = json.loads((folder / "model.json").read_bytes())
    numbering = settings.pop("catalogue")
    catalogue = Catalogue(np.array(numbering["item_ids"], dtype=str), np.array(numbering["event_types"], dtype=str))
    return catalogue, settings, load_file(folder / "model.safetensors")


def replace(path: Path, content: bytes) -> None:
    """Write aside, to the disk, then into place: a reader sees the old file or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
