"""``molfldd datasets``: what there is to train on and to sample from."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Annotated

import typer

from molfldd.errors import UsageError

if TYPE_CHECKING:
    from molfldd.molecules.datasets import DatasetInfo
    from molfldd.molecules.store import MoleculeDataset


def datasets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Load this data set, into the cache, and describe it."),
    ] = None,
) -> None:
    """List the data sets, recipes and embedded models, or load and describe one data set.

    Parsed data sets are kept in the user's cache directory, or where the environment variable
    MOLFLDD_CACHE says.
    """
    for line in _overview() if name is None else _description(name):
        typer.echo(line)


def _overview() -> list[str]:
    from molfldd.config import recipes
    from molfldd.domain import DOMAINS, domain_class
    from molfldd.model import pretrained
    from molfldd.molecules.datasets import DATASETS

    others = [item for name in DOMAINS for item in domain_class(name).sources.items()]

    return [
        "data sets:",
        *(f"  {name}: {info.summary} ({_status(name, info)})" for name, info in DATASETS.items()),
        *(f"  {name}: {summary}" for name, summary in others),
        f"recipes: {', '.join(recipes()) or 'none'}",
        f"embedded models: {', '.join(pretrained()) or 'none'}",
    ]


def _status(name: str, info: DatasetInfo) -> str:
    """Where a data set comes from, and whether it is at hand."""
    from molfldd.molecules.cached import is_cached
    from molfldd.molecules.datasets import FILE

    if name == FILE:
        return info.origin
    cached = "in the cache" if is_cached(name) else "not yet in the cache"
    if info.package is None:
        return f"{info.origin}, {cached}"
    if not _installed(info.package):
        return f"not installed: {info.origin}"
    return f"package {info.package}, {cached}"


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _description(name: str) -> list[str]:
    from molfldd.domain import DOMAINS, domain_class
    from molfldd.molecules.datasets import DATASETS, FILE

    others = [source for domain in DOMAINS for source in domain_class(domain).sources]
    known = [*(known for known in DATASETS if known != FILE), *others]
    if name not in known:
        raise UsageError(f"there is no data set '{name}'; known are: {', '.join(known)}")
    return _examples(name) if name in others else _molecules(name)


def _examples(name: str) -> list[str]:
    """Of the data of a recipe."""
    from molfldd.config import parse_config, read_recipe
    from molfldd.domain import domain_class

    config = parse_config(read_recipe(name))
    data = domain_class(config.domain).load(config.data)
    blocks = [f"{block.name} of {block.categories:,} categories" for block in data.domain.blocks]
    train, test = data.train.sizes, data.test.sizes
    smallest, largest = min(train.min(), test.min()), max(train.max(), test.max())
    return [
        f"{name}: {len(train):,} training and {len(test):,} held-out {data.domain.plural}",
        f"each: {smallest:,} to {largest:,} {', '.join(blocks)}",
        f"fingerprint: {data.fingerprint}",
    ]


def _molecules(name: str) -> list[str]:
    from molfldd.molecules.datasets import load_dataset
    from molfldd.molecules.domain import MoleculeData

    dataset = load_dataset(name)
    train, test = MoleculeData(name).divide(dataset)
    return [
        f"{name}: {len(dataset):,} molecules, {len(set(dataset.smiles)):,} distinct",
        *([] if dataset.report is None else [f"source: {dataset.report}"]),
        *([f"parts: {_parts(dataset)}"] if len(dataset.parts) > 1 else []),
        f"atoms per molecule: {_sizes(dataset)}",
        f"vocabulary: {' '.join(dataset.vocabulary.names)}",
        f"fingerprint: {dataset.fingerprint}",
        f"training split: {len(train):,} molecules, fingerprint {train.fingerprint}",
        f"test split: {len(test):,} molecules, fingerprint {test.fingerprint}",
    ]


def _parts(dataset: MoleculeDataset) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in dataset.parts.items())


def _sizes(dataset: MoleculeDataset) -> str:
    counts = enumerate(dataset.size_histogram().tolist())
    return ", ".join(f"{size}: {count:,}" for size, count in counts if count)
