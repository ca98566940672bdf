"""The Explain page: what both models look at, and how alike that is."""
