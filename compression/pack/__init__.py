"""The packed file: a compressed model's whole state in as few bytes as lossless coding allows, and where they went."""

from compression.pack.container import Ledger
from compression.pack.container import integers
from compression.pack.container import ledger
from compression.pack.container import pack
from compression.pack.container import unpack

__all__ = ["Ledger", "integers", "ledger", "pack", "unpack"]
