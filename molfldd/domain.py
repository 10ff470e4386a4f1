"""What a domain offers to the core: blocks, data, a network, decoding and a measure of quality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Augmentation, Batch, Block, Codes, Examples
from molfldd.core.joint import JointDraw, balanced
from molfldd.core.sampling import Samples
from molfldd.errors import UsageError
from molfldd.report import Report

Writer = Callable[[Path, Iterable[Any]], object]
"""Writes what ``Domain.usable`` gave for each example (None too) to a file of one format."""


class Domain(ABC):
    """One kind of data with its vocabulary.

    Training needs the abstract methods only. Files, trajectories and scores are optional: a
    domain that offers them overrides the methods that have a default here.

    Attributes:
        name: How configs call it.
        DataConfig: Typed options of the data, a frozen dataclass.
        NetworkConfig: Typed options of the network, a frozen dataclass.
        plural: What messages call several examples.
        judgement: What messages call a usable example, such as "valid"; None where all are.
        scored: Examples that ``molfldd evaluate`` samples unless told otherwise.
        joint: Name of the default of ``joint_draws``.
        place: The option of the data that says where they lie; None if they lie nowhere.
        sources: Data sets that have a recipe of the same name, each in one line.
        own: The recipe for a file of one's own; None if there is none.
    """

    name: ClassVar[str]
    DataConfig: ClassVar[type]
    NetworkConfig: ClassVar[type]
    plural: ClassVar[str] = "examples"
    judgement: ClassVar[str | None] = None
    scored: ClassVar[int] = 10_000
    joint: ClassVar[str] = "independent"
    place: ClassVar[str | None] = "path"
    sources: ClassVar[Mapping[str, str]] = MappingProxyType({})
    own: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def load(cls, config: Any) -> Data:
        """The data of a ``DataConfig``."""

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """Whether a file looks like one of this domain's examples, by what it begins with."""
        return False

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of categorical variables."""

    @abstractmethod
    def network(
        self, config: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> nn.Module:
        """A network of a ``NetworkConfig``; see ``molfldd.core.network.NetworkFactory``."""

    def augmentation(self, config: Any) -> Augmentation | None:
        """How a network of a ``NetworkConfig`` is to see the examples, if not as they are."""
        return None

    def joint_draws(self) -> Mapping[str, Mapping[str, JointDraw]]:
        """How the elements of a step can be drawn together, by name, for each block.

        Of blocks that are not named the elements are drawn independently. See
        ``molfldd.core.joint``.
        """
        return {
            "independent": {},
            "balanced": {block.name: balanced for block in self.blocks},
        }

    @abstractmethod
    def decode(self, codes: Codes, sizes: Sequence[int]) -> list[Any]:
        """Generated codes (B, n) per block as objects of the domain."""

    @abstractmethod
    def quality(self, decoded: Sequence[Any]) -> dict[str, float]:
        """A few cheap numbers that say how good generated objects are, for training logs."""

    def statistics(self, example: Any) -> Mapping[str, float] | None:
        """Numbers of a decoded example, by name; their means are what a model is calibrated by.

        One that is 0 can be left out. None for an example that is not usable.

        Raises:
            UsageError: if the domain has none.
        """
        raise UsageError(f"the domain '{self.name}' has no statistics to calibrate a model by")

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What a checkpoint must store to build the domain again."""

    @classmethod
    @abstractmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The domain of a checkpoint."""

    def like(self, other: Domain) -> bool:
        """Whether a network of the other domain means the same here, whatever the examples are."""
        return type(other) is type(self) and other.to_json() == self.to_json()

    def carried_over(
        self, state: Mapping[str, Tensor], other: Domain
    ) -> Mapping[str, Tensor] | None:
        """What another domain's process learned, as a start for one of this domain.

        Args:
            state: Weights of the process, by the names of their parameters.
            other: Its domain.

        Returns:
            The same with the other's categories where they are here, if they differ; tables that
            are too small or too large are made to fit later. None if it would mean nothing here.
        """
        return state if self.like(other) else None

    def samples(self, drawn: Samples) -> list[Any]:
        """Decoded examples of a batch from the sampler."""
        codes = {name: x.cpu() for name, x in drawn.codes.items()}
        return self.decode(codes, drawn.sizes.tolist())

    def usable(self, example: Any) -> Any | None:
        """A decoded example as it is to be printed or written; None if it is not to be."""
        return example

    def text(self, example: Any) -> str:
        """A usable example as ``molfldd sample`` prints it."""
        return str(example)

    @classmethod
    def writers(cls) -> Mapping[str, Writer]:
        """The writer of each suffix of files of examples."""
        return {}

    @classmethod
    def trajectory_writers(cls) -> Mapping[str, Writer]:
        """The same for trajectories, each a list of states z_T, ..., z_0 from ``states``."""
        return {}

    def states(self, codes: Codes, sizes: Sequence[int]) -> list[Any]:
        """States z_t (B, n) per block, masked or not, as ``trajectory_writers`` take them.

        A masked element has the code K, one more than the data's largest.
        """
        raise UsageError(f"the domain '{self.name}' cannot show trajectories")

    def trajectories(self, drawn: Samples) -> list[list[Any]]:
        """The states z_T, ..., z_0 of each example of a batch that kept its trajectory."""
        sizes = drawn.sizes.tolist()
        steps = [
            self.states({name: x.cpu() for name, x in codes.items()}, sizes)
            for codes in drawn.trajectory
        ]
        return [list(states) for states in zip(*steps, strict=True)]

    def evaluate(
        self,
        draws: Iterable[Sequence[Any]],
        data: Any,
        metrics: Mapping[str, Any],
        reference: str | None,
    ) -> Report:
        """Scores of decoded examples of a model.

        Args:
            draws: The examples of each sampling seed, one list after another; sampled when asked
                for, so what can fail should be prepared before.
            data: The ``DataConfig`` the model was trained with.
            metrics: What its checkpoint has recorded, such as "bound" in nats per example on
                held-out data.
            reference: What the user named to compare with; None for the model's own data.

        Raises:
            UsageError: if the domain has no scores, or for an unknown reference.
        """
        raise UsageError(f"the domain '{self.name}' has no scores to evaluate")

    @classmethod
    def evaluate_file(cls, path: Path, reference: str | None) -> Report:
        """Scores of the examples of a file; raises ``UsageError`` as ``evaluate`` does."""
        raise UsageError(f"the domain '{cls.name}' evaluates models only, not files")


HELD_OUT = 256
"""Held-out examples are looked at in batches of so many, at most."""

PROBABILITIES = 2**23
"""Or of fewer, if their elements had more probabilities than this at one step, as tokens do."""


@dataclass(frozen=True)
class Data:
    """Examples of a domain, divided.

    Attributes:
        domain: The domain with the vocabulary found in the data.
        train: Training examples.
        test: Held-out examples.
        fingerprint: Hash of the content, or of its training part, hex.
    """

    domain: Domain
    train: Examples
    test: Examples
    fingerprint: str

    @property
    def at_once(self) -> int:
        """How many examples to look at, or to draw, at once while training."""
        largest = self.test.sizes.max()[None]
        each = sum(int(b.length(largest)) * (b.categories + 1) for b in self.domain.blocks)
        return max(1, min(HELD_OUT, PROBABILITIES // each))

    def held_out(self, count: int) -> list[Batch]:
        """So many held-out examples in batches, always the same ones and said in the same way."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.split(self.test.some(count), self.at_once)
        return [self.test.drawn(part, generator) for part in rows]


DOMAINS = {
    "molecules": "molfldd.molecules.domain:Molecules",
    "mixture": "molfldd.toy.domain:Mixture",
    "images": "molfldd.images.domain:Images",
    "text": "molfldd.text.domain:Text",
}
"""Where each domain lives; imported when asked for."""


def domain_class(name: str) -> type[Domain]:
    """The domain of a name; raises ``UsageError`` for an unknown one."""
    if name not in DOMAINS:
        raise UsageError(f"there is no domain '{name}'; known are: {', '.join(DOMAINS)}")
    module, attribute = DOMAINS[name].split(":")
    found: type[Domain] = getattr(import_module(module), attribute)
    return found


def domain_of_file(path: Path) -> type[Domain]:
    """The first domain that recognizes a file; the first of all if none does, to say why."""
    known = map(domain_class, DOMAINS)
    return next((one for one in known if one.recognizes(path)), domain_class(next(iter(DOMAINS))))
