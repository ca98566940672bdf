"""The packed file: a compressed model's whole state in as few bytes as lossless coding allows, and where they went."""

from compression.counting.ledger import Ledger
from compression.pack.container import integers, ledger, pack, unpack

__all__ = ["Ledger", "integers", "ledger", "pack", "unpack"]
