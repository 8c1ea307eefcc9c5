"""The only place where tasks, edits and results meet."""
