"""What is said besides results, on stderr."""

from rich.console import Console


def say(message: str) -> None:
    """A line on stderr, by the first of several processes that train together."""
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    show = rank_zero_only(Console(stderr=True).print)
    show(message, soft_wrap=True, markup=False, highlight=False)
