"""Compression from weights and a few inputs, without labels or training: what the methods of this kind share."""
