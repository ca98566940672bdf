"""The Budget page: the draft, its questions and answers, bounds, studies, files, and the way to a run."""
