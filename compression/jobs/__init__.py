"""Jobs above runs, exports and explanations: studies of dense models, work on a finished run, and the worker."""
