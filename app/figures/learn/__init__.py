"""The pictures of the lessons: pure functions from a lesson's numbers to a figure, for the page and for notebooks."""
