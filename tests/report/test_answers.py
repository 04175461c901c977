"""The page of answers beside their judgments."""

import json
import re
from pathlib import Path

import pytest
from support.html_page import Page
from support.results_studies import MINI_TRACK, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.figures import write_figures
from owlore.compare.results import load
from owlore.core.files import read_jsonl
from owlore.report.page import write_report


@pytest.fixture(scope="module")
def answers_page(made):
    _, root, _, _ = made
    text = (root / "report" / "answers.html").read_text()
    return root, text, Page(text)


def content_of(text: str):
    raw = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.S)[1]
    return json.loads(raw)


def test_the_answers_page_loads_nothing_and_escapes_everything(answers_page):
    _, text, page = answers_page
    links = [a["href"] for a in page.all("a")]
    assert links == ["index.html"]
    assert not re.search(r"(https?:)?//[\w.-]+\.\w+", text)
    assert "url(" not in text and "@import" not in text and "innerHTML" not in text
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")
    assert "<b>Made-up</b>" not in text  # from an answer
    assert "<question>" not in text
    assert "<as judge>" not in text


def test_the_answers_page_holds_every_answer_beside_its_judgments(made, answers_page):
    study, root, _, _ = made
    content = content_of(answers_page[1])
    (group,) = content["groups"]
    assert [cell["method"] for cell in group["cells"]] == study.run
    assert group["asked"] == list(range(81, 89))
    for cell, one in zip(study.cells(), group["cells"], strict=True):
        rows = read_jsonl(root / cell.path / "mtbench" / "answers.jsonl")
        assert one["answers"] == {
            str(row["question_id"]): row["choices"][0]["turns"] for row in rows
        }
        for row in read_jsonl(root / cell.path / "mtbench" / "judgments.jsonl"):
            judged = one["judged"][""][f"{row['question_id']}.{row['turn']}"]
            score = None if row["score"] == -1 else row["score"]
            assert judged["score"] == score
            assert judged["judgings"] == [{"rating": score, "text": row["judgment"]}]


def test_the_report_links_to_the_answers_and_a_study_without_any_says_so(made, tmp_path: Path):
    assert 'href="answers.html"' in made[2]
    track = {key: MINI_TRACK[key] for key in ("train", "commonsense")}
    study = made_up_study(run=["base", "full"], tracks={"mini": track})
    write_made_up_results(study, tmp_path)
    write_figures(load(study, tmp_path))
    write_report(study, tmp_path)
    text = (tmp_path / "report" / "answers.html").read_text()
    assert "No track of this study is scored on MT-Bench" in text
    assert content_of(text)["groups"] == []
