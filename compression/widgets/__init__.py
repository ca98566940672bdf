"""Notebook widgets and rich representations: the library in a cell of Jupyter, VS Code or marimo."""
