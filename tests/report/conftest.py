"""Made-up results with a report, made once for all tests of this room; none changes them."""

import pytest
from support.html_page import Page
from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.figures import write_figures
from owlore.compare.results import load
from owlore.report.page import write_report


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("report")
    study = made_up_study(description='A <b>bold</b> & "quoted" description.')
    write_made_up_results(study, root)
    write_figures(load(study, root))
    write_report(study, root)
    text = (root / "report" / "index.html").read_text()
    return study, root, text, Page(text)
