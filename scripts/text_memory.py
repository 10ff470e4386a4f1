"""Peak memory of text models, in tensors of batch x length x (vocabulary + 1) float32 numbers.

A training step with everything masked, sampling, and the bound; with a network so small that what
grows with the vocabulary is all there is, for several vocabularies and batches: the numbers stay,
so memory is linear in each. Then one training step of a recipe, with its own network, on random
texts of the greatest length. What torch's tensors hold is counted, as they are made and freed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Annotated, Any

import torch
import typer
from tables import markdown
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from molfldd.building import build_forward, build_reverse
from molfldd.cli.running import run_script
from molfldd.config import ProcessConfig, parse_config, read_recipe
from molfldd.core.blocks import (
    Batch,
    Block,
    Prior,
    SizeDistribution,
    absorbing_prior,
    masks,
    uniform_prior,
)
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators import Pathwise
from molfldd.core.estimators.base import Term
from molfldd.core.network import NetworkFactory
from molfldd.core.report import evaluate_bound
from molfldd.core.sampling import Sampler
from molfldd.text.network import Transformer, TransformerConfig

TOKENS = "tokens"
PROCESSES = {
    "learned masking": ProcessConfig(steps=2),
    "conventional masking": ProcessConfig(steps=2, forward="fixed"),
    "uniform noise": ProcessConfig(steps=2, forward="fixed", prior="uniform", reverse="jump"),
}
LENGTH = 32


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors made inside and not freed yet; ``peak`` is the most."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        """Run the operation, and count what it made."""
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Inside, what it yields gives the peak so far, in bytes."""
    with LiveTensors() as tensors:
        yield lambda: tensors.peak


def processes(
    config: ProcessConfig, network: TransformerConfig, vocabulary: int, length: int
) -> Diffusion:
    """Both processes of texts, untrained."""
    blocks = (Block(TOKENS, vocabulary, torch.Tensor.clone),)
    make: Any = absorbing_prior if config.prior == "absorbing" else uniform_prior
    prior: Prior = make(blocks)
    factory: NetworkFactory = partial(Transformer, network, length)
    return Diffusion(
        build_forward(config, blocks, prior, factory), build_reverse(config, blocks, prior, factory)
    )


def random_texts(diffusion: Diffusion, batch: int, length: int) -> Batch:
    """Texts of the greatest length."""
    sizes = torch.full((batch,), length)
    categories = diffusion.blocks[0].categories
    codes = {TOKENS: torch.randint(categories, (batch, length))}
    return Batch(codes, masks(diffusion.blocks, sizes), sizes)


def training_step(diffusion: Diffusion, texts: Batch) -> None:
    """The gradient at t = T, where everything is noise."""
    t = torch.full_like(texts.sizes, diffusion.steps)
    Pathwise()(Term.of(diffusion, texts, t), torch.Generator(), 0.0).loss.backward()


def sampling(diffusion: Diffusion, texts: Batch) -> None:
    """As many texts as there are."""
    sizes = SizeDistribution.of(texts.sizes)
    Sampler(diffusion.reverse, diffusion.prior, sizes).sample(0, range(len(texts)))


def bound(diffusion: Diffusion, texts: Batch) -> None:
    """Of the texts, at every step."""
    evaluate_bound(diffusion, [texts], SizeDistribution.of(texts.sizes), torch.Generator())


def peak(call: Callable[[Diffusion, Batch], None], diffusion: Diffusion, texts: Batch) -> int:
    """Bytes."""
    with counted() as found:
        call(diffusion, texts)
        return found()


def main(recipe: Annotated[str, typer.Option(help="Of text.")] = "rocstories") -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for (name, process), vocabulary, batch in product(PROCESSES.items(), (1000, 8000), (4, 16)):
        diffusion = processes(process, TransformerConfig(1, 16, 1), vocabulary, LENGTH)
        texts, unit = random_texts(diffusion, batch, LENGTH), 4 * batch * LENGTH * (vocabulary + 1)
        found = [peak(call, diffusion, texts) for call in (training_step, sampling, bound)]
        rows.append([name, str(vocabulary), str(batch), *(f"{x / unit:.1f}" for x in found)])
    print(markdown(["process", "vocabulary", "batch", "training step", "sampling", "bound"], rows))
    config = parse_config(read_recipe(recipe))
    length, batch = config.data.max_length, config.training.share(1)
    diffusion = processes(config.process, config.network, config.data.vocabulary, length)
    most = peak(training_step, diffusion, random_texts(diffusion, batch, length)) / 2**30
    print(f"\nA training step of {recipe}, {batch} texts of {length} tokens: {most:.2f} GiB")


if __name__ == "__main__":
    run_script(main)
