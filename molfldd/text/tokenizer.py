"""The tokenizer: byte-level BPE, trained once per corpus and kept in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molfldd.errors import MolflddError, UsageError
from molfldd.storage import cache_directory, cache_entry

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES = 256
"""The least vocabulary: one token per byte, so every text can be written."""


def library() -> Any:
    """The package tokenizers; raises ``MolflddError`` if it is not installed."""
    try:
        import tokenizers
    except ImportError as error:
        raise MolflddError(
            'text needs the package tokenizers: pip install "molfldd[text]"'
        ) from error
    return tokenizers


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer of the texts; whatever it encodes, it decodes exactly.

    Args:
        texts: What to count pairs in.
        vocabulary: Tokens wanted, at least ``BYTES``; a small corpus may give fewer.
    """
    hf = library()
    tokenizer: Tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = hf.decoders.ByteLevel()
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def cached_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """``train_tokenizer``, or what it returned for the same texts and vocabulary before.

    Raises:
        MolflddError: if the cache cannot be written.
    """
    digest = sha256(f"{library().__version__}\n{vocabulary}\n".encode())
    digest.update("\n".join(texts).encode())
    path = cache_directory() / f"tokenizer-{digest.hexdigest()[:32]}.json"
    if path.is_file():
        with suppress(UsageError):  # a damaged file is built again
            return read_tokenizer(path)
    tokenizer = train_tokenizer(texts, vocabulary)
    with cache_entry(path) as partial:
        partial.write_text(tokenizer.to_str(), encoding="utf-8")
    return tokenizer


def named_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``, or of a model of the Hugging Face hub.

    Args:
        name: The path of the file, or what the model is called there, such as "gpt2".

    Raises:
        UsageError: if there is no such file or model, or it has no readable tokenizer.
    """
    path = Path(name)
    if path.exists() or path.suffix == ".json":
        return read_tokenizer(path)
    hub = library().Tokenizer
    try:
        tokenizer: Tokenizer = hub.from_pretrained(name)
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(
            f"config key 'data.tokenizer': there is no file {name}, and the Hugging Face hub gave "
            f"no tokenizer of a model of that name ({error}); give the path of a tokenizer.json, "
            "or a name such as gpt2"
        ) from error
    return _bare(tokenizer)


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``; raises ``UsageError`` if it cannot be read."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the tokenizer {path}: {error}") from error
    return parse_tokenizer(content, str(path))


def parse_tokenizer(content: str, source: str) -> Tokenizer:
    """The tokenizer of its own JSON, without padding and truncation.

    Args:
        content: The JSON.
        source: Where it comes from, for the error.

    Raises:
        UsageError: if it is not the JSON of a tokenizer.
    """
    try:
        tokenizer: Tokenizer = library().Tokenizer.from_str(content)
    except MolflddError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"{source} is not the JSON of a tokenizer: {error}") from error
    return _bare(tokenizer)


def _bare(tokenizer: Tokenizer) -> Tokenizer:
    """Without padding and truncation."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Codes of each text, without special tokens.

    Raises:
        UsageError: if the tokenizer has no code for something in them.
    """
    try:
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"the tokenizer cannot encode the texts: {error}") from error
    return [entry.ids for entry in encoded]


def codes_of(tokenizer: Tokenizer) -> int:
    """How many codes a tokenizer may give; there may be some among them that it never does."""
    return 1 + max(tokenizer.get_vocab().values())


def decode(tokenizer: Tokenizer, codes: Sequence[Sequence[int]]) -> list[str]:
    """Texts of codes; bytes that are no UTF-8 become U+FFFD."""
    return list(tokenizer.decode_batch(codes, skip_special_tokens=False))
