"""What is said besides results, on stderr."""

from rich.console import Console


def say(message: str) -> None:
    """A line on stderr."""
    Console(stderr=True).print(message, soft_wrap=True, markup=False, highlight=False)
