"""The lessons: one folder each with its text, its numbers and its figure; streamlit draws them in ``app/learn``."""
