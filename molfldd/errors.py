"""Errors that a user can act on: one clear sentence each (what, where, what to do)."""


class MolflddError(Exception):
    """A task failed for a reason the user can act on; the command line exits with 1."""


class UsageError(MolflddError):
    """What the user asked for is not possible as asked; the command line exits with 2."""
