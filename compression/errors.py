"""What can go wrong by the user's doing: one line that says what, and what to do about it."""


class CompressionError(Exception):
    """Bad input. The message is one line a user can act on; the command line prints it and exits with status 2."""


class RunFailed(CompressionError):
    """A run started and did not reach its end (exit status 1)."""


class Cancelled(Exception):
    """Raised inside a run at the next safe moment after the user asked it to stop."""


class Paused(Exception):
    """Raised inside a run, once its checkpoint is written, after the user asked it to pause."""
