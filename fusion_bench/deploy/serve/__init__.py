"""An HTTP server of one stored run: micro-batches, limits on whatever is sent, metrics and a page to try it."""
