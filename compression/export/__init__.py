"""Taking a finished run home: one zip that is really smaller, runs without this program, and says what was measured."""

from compression.export.apply import apply
from compression.export.bundle import Bundle, export
from compression.export.reader import load

__all__ = ["Bundle", "apply", "export", "load"]
