"""Storage: paths and URLs, files written whole, tensors, and the results of stages."""
