"""Report: what a study found, from its storage: for people on the terminal, for scripts as one JSON document."""

from mtl_search.report.comparison import Comparison
from mtl_search.report.document import study_document, to_json
from mtl_search.report.side_by_side import print_comparison
from mtl_search.report.summary import summary
from mtl_search.report.terminal import print_report

__all__ = ["Comparison", "print_comparison", "print_report", "study_document", "summary", "to_json"]
