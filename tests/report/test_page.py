"""The report page: complete, offline, escaped, careful in words (numbers made up)."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.results_studies import MINI_TRACK, fake_study
from support.results_tree import write_fake_results

from owlore.compare import lineage
from owlore.compare.figures import write_figures
from owlore.compare.results import load
from owlore.compare.tables import make_tables
from owlore.core.errors import BadInput
from owlore.core.files import read_json, read_jsonl, write_json
from owlore.report.page import write_report
from owlore.report.summary import answer, limits

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask for, and checks that tags are balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.origins: list[dict[str, str]] = []  # of each number: as the page's script finds it
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        if tag == "table":
            self._table, self._heads = given.get("data-name"), []
        elif tag == "th":
            self._heads.append("")
        elif tag == "tr":
            self._row, self._column = given, -1
        elif tag == "td":
            self._column += 1
        elif given.get("class") == "origin":
            name, column = self._row["data-name"], self._heads[self._column].strip()
            cells = self._row["data-cells"]
            self.origins.append(
                {"table": self._table, "row": name, "column": column, "cells": cells}
            )
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "th" in self.open:
            self._heads[-1] += data
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("report")
    study = fake_study(description='A <b>bold</b> & "quoted" description.')
    write_fake_results(study, root)
    write_figures(load(study, root))
    write_report(study, root)
    text = (root / "report" / "index.html").read_text()
    return study, root, text, Page(text)


def test_nothing_is_loaded_from_elsewhere(made):
    _, _, text, page = made
    outside = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action")
        and not re.match(r"data:|#|answers\.html$", value or "")
    ]
    assert outside == []
    assert not re.search(r"(https?:)?//[\w.-]+\.\w+", text)
    assert "url(" not in text
    assert "@import" not in text
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_names_from_the_study_are_escaped(made):
    _, _, text, page = made
    assert "<b>bold</b>" not in text
    assert 'A <b>bold</b> & "quoted" description.' in "".join(page.text)
    assert "<CPU>" not in text  # from the manifest
    assert "<as judge>" not in text  # from the judge's label
    assert "&lt;as judge&gt;" in text
    assert len(page.all("script")) == 1


def test_all_sections_tables_figures_and_cells_are_there(made):
    study, root, _, page = made
    words = " ".join("".join(page.text).split())
    assert len(page.all("table")) == 9
    assert [image["src"][:26] for image in page.all("img")] == ["data:image/svg+xml;base64,"] * 6
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("details")) == len(study.cells())
    for cell in study.cells():
        target = f"{root.as_posix()}/{cell.path}/finetune.json"
        assert f"snakemake --cores all {target} --configfile STUDY.yaml" in words
        assert read_json(root / cell.path / "finetune.json")["weights_sha256"] in words
    targets = {link["href"] for link in page.all("a") if link["href"].startswith("#")}
    assert targets <= {f"#{attributes.get('id')}" for _, attributes in page.tags}


def test_every_number_of_a_method_leads_to_its_cells(made):
    study, root, _, page = made
    results = load(study, root)
    tables = {table.name: table for table in make_tables(results)}
    known = {one["data-cell"] for one in page.all("details")}
    assert len({one["table"] for one in page.origins}) >= 6
    for one in page.origins:
        assert set(one["cells"].split()) <= known
        column = one["column"].split(" (")[0]
        row, value = lineage.find(tables[one["table"]], f"{one['row']}:{column}")
        assert value.number is not None
        behind = lineage.behind(results, tables[one["table"]], row)
        assert one["cells"].split() == [entry.cell.path for entry in behind]


def test_the_csv_inside_the_page_is_the_table(made):
    _, _, _, page = made
    link = next(a for a in page.all("a") if a.get("download") == "commonsense.csv")
    content = base64.b64decode(link["href"].split(",", 1)[1]).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [row["method"] for row in rows] == fake_study().run


def test_sortable_columns_work_from_the_keyboard(made):
    _, _, _, page = made
    heads = [attributes for attributes in page.all("th")]
    assert heads
    assert all(head["aria-sort"] == "none" and head["scope"] == "col" for head in heads)
    buttons = [one for one in page.all("button") if one.get("class") != "origin"]
    assert len(buttons) == len(heads) + 1  # the last one closes the dialog


def test_same_results_same_page(made, tmp_path: Path):
    study, root, text, _ = made
    write_fake_results(study, tmp_path)
    write_figures(load(study, tmp_path))
    write_report(study, tmp_path)
    again = (tmp_path / "report" / "index.html").read_text()
    assert again.replace(str(tmp_path), str(root)) == text


@pytest.mark.parametrize("name", ["manifest.json", "figures/loss.svg"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    study = fake_study()
    write_fake_results(study, tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / name).unlink(missing_ok=True)
    for figure in {"differences", "tradeoff", "mtbench", "layers", "outliers"} - {Path(name).stem}:
        (tmp_path / "figures" / f"{figure}.svg").write_text("<svg/>")
    with pytest.raises(BadInput, match=name):
        write_report(study, tmp_path)
    assert not (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize(
    ("skill", "said"),
    [
        (
            {"base": -3, "full": 0, "owlore": 3},
            "scores higher than the base model and scores higher",
        ),
        ({"base": 3, "full": 0, "owlore": -3}, "scores lower than the base model and scores lower"),
        (
            {"base": 0.4, "full": 0.4, "owlore": 0.4},
            "cannot be told apart from the base model and cannot be told apart from full",
        ),
    ],
)
def test_the_answer_follows_the_tests(tmp_path: Path, skill, said):
    study = fake_study(run=["base", "full", "owlore"])
    write_fake_results(study, tmp_path, skill=skill)
    (block,) = answer(load(study, tmp_path))
    assert said in block["headline"]
    together = " ".join(block["sentences"])
    assert "equal" not in together
    assert "conditional on one training seed" in together
    assert "Not comparable with the paper" in together


def test_as_good_as_is_said_only_where_it_was_shown(tmp_path: Path):
    study = fake_study(run=["base", "full", "owlore"], comparison={"equivalence_margin": 50})
    write_fake_results(study, tmp_path, skill={"base": 0.4, "full": 0.4, "owlore": 0.4})
    (block,) = answer(load(study, tmp_path))
    assert "is as good (less than 50 points apart) as full fine-tuning" in block["headline"]
    assert "less than 50 points apart" in " ".join(block["sentences"])


def test_the_answer_without_the_paper_method_or_scores(tmp_path: Path):
    study = fake_study(run=["base", "full"])
    write_fake_results(study, tmp_path / "a")
    assert "does not run OwLore" in answer(load(study, tmp_path / "a"))[0]["headline"]
    chat = {key: MINI_TRACK[key] for key in ("train", "mtbench")}
    study = fake_study(tracks={"chat": chat})
    write_fake_results(study, tmp_path / "b")
    assert "no answer on accuracy" in answer(load(study, tmp_path / "b"))[0]["headline"]


def test_limits_name_what_the_study_cannot_tell(made, tmp_path: Path):
    study, root, _, _ = made
    said = " ".join(limits(load(study, root)))
    for part in ("One training seed", "does not mean", "plumbing check", "torch's allocator"):
        assert part in said
    seeds = fake_study(seeds=[0, 1], run=["base", "full"])
    write_fake_results(seeds, tmp_path)
    path = tmp_path / "mini/tiny_model/full/seed{}/finetune.json"
    for seed in (0, 1):
        cell = Path(str(path).format(seed))
        write_json(cell, read_json(cell) | {"device": "cuda"})
    said = " ".join(limits(load(seeds, tmp_path)))
    assert "2 training seeds: intervals cover the choice of questions and of seeds" in said
    assert "torch's allocator" not in said  # the base model's cell trained nothing on the CPU


# The page of answers beside judgments


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
    study = fake_study(run=["base", "full"], tracks={"mini": track})
    write_fake_results(study, tmp_path)
    write_figures(load(study, tmp_path))
    write_report(study, tmp_path)
    text = (tmp_path / "report" / "answers.html").read_text()
    assert "No track of this study is scored on MT-Bench" in text
    assert content_of(text)["groups"] == []
