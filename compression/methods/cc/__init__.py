"""Collaborative compression: whole units removed and layers split into factors, by one account of error and MACs."""

from compression.methods.cc.method import CC, METHOD

__all__ = ["CC", "METHOD"]
