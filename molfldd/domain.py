"""What a domain offers to the core: blocks, data, a network, decoding and a measure of quality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self

from torch import nn

from molfldd.core.blocks import Block, Codes, Examples
from molfldd.core.sampling import Samples
from molfldd.errors import UsageError


class Domain(ABC):
    """One kind of data with its vocabulary.

    Attributes:
        name: How configs call it.
        DataConfig: Typed options of the data, a frozen dataclass.
        NetworkConfig: Typed options of the network, a frozen dataclass.
    """

    name: ClassVar[str]
    DataConfig: ClassVar[type]
    NetworkConfig: ClassVar[type]

    @classmethod
    @abstractmethod
    def load(cls, config: Any) -> Data:
        """The data of a ``DataConfig``."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of categorical variables."""

    @abstractmethod
    def network(
        self, config: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> nn.Module:
        """A network of a ``NetworkConfig``; see ``molfldd.core.network.NetworkFactory``."""

    @abstractmethod
    def decode(self, codes: Codes, sizes: Sequence[int]) -> list[Any]:
        """Generated codes (B, n) per block as objects of the domain."""

    @abstractmethod
    def quality(self, decoded: Sequence[Any]) -> dict[str, float]:
        """A few cheap numbers that say how good generated objects are, for training logs."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What a checkpoint must store to build the domain again."""

    @classmethod
    @abstractmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""

    def samples(self, drawn: Samples) -> list[Any]:
        """Decoded examples of a batch from the sampler."""
        codes = {name: x.cpu() for name, x in drawn.codes.items()}
        return self.decode(codes, drawn.sizes.tolist())


@dataclass(frozen=True)
class Data:
    """Examples of a domain, divided.

    Attributes:
        domain: The domain with the vocabulary found in the data.
        train: Training examples.
        test: Held-out examples.
        fingerprint: Hash of the content, hex.
    """

    domain: Domain
    train: Examples
    test: Examples
    fingerprint: str


DOMAINS = {
    "molecules": "molfldd.molecules.domain:Molecules",
    "mixture": "molfldd.toy.domain:Mixture",
}
"""Where each domain lives; imported when asked for."""


def domain_class(name: str) -> type[Domain]:
    """The domain of a name; raises ``UsageError`` for an unknown one."""
    if name not in DOMAINS:
        raise UsageError(f"there is no domain '{name}'; known are: {', '.join(DOMAINS)}")
    module, attribute = DOMAINS[name].split(":")
    found: type[Domain] = getattr(import_module(module), attribute)
    return found
