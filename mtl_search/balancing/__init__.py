"""Balancing: task losses of one batch become one update; probes that measure gradients."""
