"""A trained model as two files: its arrays (``model.safetensors``) and its settings (``model.json``).

Arrays are mapped from their file, not read: processes that use the same model share its memory, and what nobody looks
at takes none.  The library's own loaders copy.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lib.data.datasets import Catalogue

DTYPES = {  # as safetensors names them
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def write(folder: Path, catalogue: Catalogue, settings: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
    """Keep a model in a folder, which is made where it is not there; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    numbering = {"item_ids": catalogue.item_ids.tolist(), "event_types": catalogue.event_types.tolist()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    replace(folder / "model.safetensors", save(contiguous))
    replace(folder / "model.json", json.dumps({**settings, "catalogue": numbering}, sort_keys=True).encode())


def read(folder: Path) -> tuple[Catalogue, dict, dict[str, np.ndarray]]:
    """The catalogue, settings and arrays that ``write`` kept.

    Whoever writes to the arrays writes to memory of its own, never to the file.  Raises FileNotFoundError where it is
    gone, ValueError where it is damaged.
    """
    settings = json.loads((folder / "model.json").read_bytes())
    numbering = settings.pop("catalogue")
    catalogue = Catalogue(np.array(numbering["item_ids"], dtype=str), np.array(numbering["event_types"], dtype=str))
    return catalogue, settings, _mapped(folder / "model.safetensors")


def _mapped(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np"):
            pass  # it has looked whether the file is whole
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    content = np.memmap(path, np.uint8, mode="c").view(np.ndarray)
    start = 8 + int(content[:8].view("<u8")[0])
    header = json.loads(content[8:start].tobytes())
    header.pop("__metadata__", None)
    found = {}
    for name, told in sorted(header.items()):
        begin, end = told["data_offsets"]
        found[name] = content[start + begin : start + end].view(DTYPES[told["dtype"]]).reshape(told["shape"])
    return found


def replace(path: Path, content: bytes) -> None:
    """Write aside, to the disk, then into place: a reader sees the old file or the new one, never half of it."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
