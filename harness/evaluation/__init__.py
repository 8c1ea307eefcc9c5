"""One evaluation: the request, its edits and factors, its tasks, their scores."""
