"""Everything of the app that is Streamlit's and no page: the frame here, a package for each page's pieces, figures."""
