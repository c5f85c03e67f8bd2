"""Report: what a study found, from its storage, for people: on the terminal and wherever else they look."""

from mtl_search.report.terminal import print_report

__all__ = ["print_report"]
