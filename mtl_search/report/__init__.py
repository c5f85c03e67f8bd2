"""Report: what a study found, from its storage: for people on the terminal, for scripts as one JSON document."""

from mtl_search.report.document import study_document, to_json
from mtl_search.report.findings import summary
from mtl_search.report.terminal import print_report

__all__ = ["print_report", "study_document", "summary", "to_json"]
