"""Reports as single HTML files: they load nothing, run nothing, and show every text as it is."""

from es_latechunk.evaluation.html.comparison import comparison_page
from es_latechunk.evaluation.html.page import check_target, write_page
from es_latechunk.evaluation.html.report import report_page

__all__ = ["check_target", "comparison_page", "report_page", "write_page"]
