"""Charts for the app, notebooks and reports: plain data → a frozen info object with its table → a Plotly figure.

``curves_figure(loss_info(points, steps, stages))``: the info holds the numbers, which tests compare and pages list
in a table; the figure draws them. Plotly is imported when the first figure is made, never by an import of this package.
"""
