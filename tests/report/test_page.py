"""The report page: complete, offline, escaped, careful in words (numbers made up)."""

import base64
import csv
import io
import re
from pathlib import Path

import pytest
from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.compare import lineage
from owlore.compare.figures import write_figures
from owlore.compare.results import load
from owlore.compare.tables import make_tables
from owlore.core.errors import BadInput
from owlore.core.files import read_json
from owlore.report.page import write_report


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
    assert [row["method"] for row in rows] == made_up_study().run


def test_sortable_columns_work_from_the_keyboard(made):
    _, _, _, page = made
    heads = [attributes for attributes in page.all("th")]
    assert heads
    assert all(head["aria-sort"] == "none" and head["scope"] == "col" for head in heads)
    buttons = [one for one in page.all("button") if one.get("class") != "origin"]
    assert len(buttons) == len(heads) + 1  # the last one closes the dialog


def test_same_results_same_page(made, tmp_path: Path):
    study, root, text, _ = made
    write_made_up_results(study, tmp_path)
    write_figures(load(study, tmp_path))
    write_report(study, tmp_path)
    again = (tmp_path / "report" / "index.html").read_text()
    assert again.replace(str(tmp_path), str(root)) == text


@pytest.mark.parametrize("name", ["manifest.json", "figures/loss.svg"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    study = made_up_study()
    write_made_up_results(study, tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / name).unlink(missing_ok=True)
    for figure in {"differences", "tradeoff", "mtbench", "layers", "outliers"} - {Path(name).stem}:
        (tmp_path / "figures" / f"{figure}.svg").write_text("<svg/>")
    with pytest.raises(BadInput, match=name):
        write_report(study, tmp_path)
    assert not (tmp_path / "report" / "index.html").exists()
