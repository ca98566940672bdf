"""Figures as pure functions: data → an info object (what tests check) → a Plotly figure. Usable from a notebook too."""
