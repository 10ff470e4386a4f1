"""Language models that judge texts: perplexity, and features for MAUVE.

They come through the package transformers, by name or from a local folder or ``.gguf`` file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from molfldd.errors import MolflddError

GPT2 = "gpt2-large"
"""The judge and feature model of the published protocol."""
MAX_TOKENS = 256
"""Longer texts are cut before they are judged; to less by a model with fewer positions."""

_BATCH = 16
_MISSING = '{} needs the package {}: pip install "molfldd[text-metrics]"'

Features = NDArray[np.float32]
"""One row per text, (N, d)."""


@dataclass(frozen=True)
class _Loaded:
    """A pretrained model with its tokenizer.

    Attributes:
        name: As given.
        tokenizer: Of the package transformers.
        model: In evaluation mode, on the GPU if there is one.
    """

    name: str
    tokenizer: Any
    model: Any

    @classmethod
    def load(cls, name: str) -> Self:
        """The model of a name that transformers knows, a folder, or a ``.gguf`` file.

        Raises:
            MolflddError: if a package is missing or the model cannot be loaded.
        """
        try:
            import transformers
        except ImportError as error:
            raise MolflddError(_MISSING.format("a judge of texts", "transformers")) from error
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        path, options = Path(name), {}
        if path.suffix == ".gguf":
            name_or_folder, options = str(path.parent), {"gguf_file": path.name}
        else:
            name_or_folder = name
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name_or_folder, **options)
            model = cls._model_class(transformers).from_pretrained(
                name_or_folder, dtype=torch.float32, **options
            )
        except (ImportError, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise MolflddError(
                f"cannot load the language model {name}: {reason}; give the path of a folder or "
                ".gguf file, or a name that can be downloaded"
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(name, tokenizer, model.eval().to(device))

    @staticmethod
    def _model_class(transformers: Any) -> Any:
        return transformers.AutoModel

    def _batches(self, texts: Sequence[str], start: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens (B, n) padded at the end and which of them exist, bool (B, n)."""
        longest = min(MAX_TOKENS, getattr(self.model.config, "max_position_embeddings", MAX_TOKENS))
        for first in range(0, len(texts), _BATCH):
            rows = [
                [*start, *self.tokenizer(text, add_special_tokens=not start).input_ids][:longest]
                for text in texts[first : first + _BATCH]
            ]
            sizes = torch.tensor([len(row) for row in rows])
            exists = torch.arange(int(sizes.max())) < sizes[:, None]
            tokens = torch.zeros(exists.shape, dtype=torch.long)
            tokens[exists] = torch.tensor([token for row in rows for token in row])
            yield tokens.to(self.model.device), exists.to(self.model.device)


class Judge(_Loaded):
    """A causal language model that says how likely a text is."""

    @staticmethod
    def _model_class(transformers: Any) -> Any:
        return transformers.AutoModelForCausalLM

    @torch.no_grad()
    def perplexities(self, texts: Sequence[str]) -> list[float]:
        """exp of the mean of -log p(token | those before it) of each text, nats.

        The first token is judged too, after the model's start token (if it has none, its end
        token). Texts are not empty. Raises ``MolflddError`` if it has neither.
        """
        start = self.tokenizer.bos_token_id
        if start is None:
            start = self.tokenizer.eos_token_id
        if start is None:
            raise MolflddError(f"the language model {self.name} has no token to begin a text with")
        result: list[float] = []
        for tokens, exists in self._batches(texts, [start]):
            logits = self.model(input_ids=tokens, attention_mask=exists.long()).logits[:, :-1]
            nats = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), tokens[:, 1:], reduction="none"
            )
            judged = exists[:, 1:]
            result += (((nats * judged).sum(-1)) / judged.sum(-1)).exp().tolist()
        return result


class Encoder(_Loaded):
    """A model whose last hidden state describes a text.

    Of a folder in the layout of sentence-transformers (with ``modules.json``) the mean over the
    tokens, of any other model that of the last token, as MAUVE takes it.
    """

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Features:
        """Features of non-empty texts, (N, d) float32."""
        mean = (Path(self.name) / "modules.json").is_file()
        parts = []
        for tokens, exists in self._batches(texts, []):
            states = self.model(input_ids=tokens, attention_mask=exists.long()).last_hidden_state
            parts.append(_average(states, exists) if mean else _last(states, exists))
        return torch.cat(parts).cpu().numpy()


def _average(states: Tensor, exists: Tensor) -> Tensor:
    """Mean over the elements that exist, (B, n, d) to (B, d)."""
    return (states * exists[..., None]).sum(1) / exists.sum(1, keepdim=True)


def _last(states: Tensor, exists: Tensor) -> Tensor:
    """The last element that exists, (B, n, d) to (B, d)."""
    return states[torch.arange(len(states), device=states.device), exists.sum(1) - 1]


def mauve(generated: Features, reference: Features) -> float:
    """MAUVE of features of generated and of real texts, with the package's own settings.

    Args:
        generated: (N, d); an ``Encoder`` or any other program made them.
        reference: (M, d), of the same model.

    Raises:
        MolflddError: if the package mauve-text is not installed.
    """
    found = mauve_package().compute_mauve(p_features=generated, q_features=reference)
    return float(found.mauve)


def mauve_package() -> Any:
    """The package mauve-text; raises ``MolflddError`` if it is not installed."""
    try:
        import mauve as package
    except ImportError as error:
        raise MolflddError(_MISSING.format("MAUVE", "mauve-text")) from error
    return package
