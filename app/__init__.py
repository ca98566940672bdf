"""Everything of the app that is Streamlit's and no page: entry point, state, figures, layout, widgets."""
