"""The Groups page: the graph merged, placed, searched and coloured, and why units are tied."""
