"""What can go wrong by the user's doing: one line that says what, and what to do about it."""

LONGEST = 2_000
"""Letters of a message: names and values that a file brings may be of any size."""


class CompressionError(Exception):
    """Bad input. The message is one line a user can act on; the command line prints it and exits with status 2.

    ``what`` is wrong; ``typed`` is what to type on a command line to set it right, which a page has other ways for.
    """

    def __init__(self, what: str, typed: str = "") -> None:
        self.what = _one_line(what)
        super().__init__(_one_line(f"{what}: {typed}" if typed else what))


def _one_line(text: str) -> str:
    """The text without line breaks; of a very long one the beginning and the end, where the way out stands."""
    text = " ".join(text.splitlines())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 501]}…{text[-500:]}"


class RunFailed(CompressionError):
    """A run started and did not reach its end (exit status 1)."""


class Cancelled(Exception):
    """Raised inside a run at the next safe moment after the user asked it to stop."""


class Paused(Exception):
    """Raised inside a run, once its checkpoint is written, after the user asked it to pause."""
