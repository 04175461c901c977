"""results/README.md says what the Records have: every field of every result file."""

import json

from support.results_studies import made_up_study
from support.results_tree import write_made_up_results

from owlore.plan.results_page import FILES, PAGE, START, text


def test_the_page_is_in_step():
    page = PAGE.read_text(encoding="utf-8")
    assert page == text(page), "python -m owlore.plan.results_page"


def test_what_a_person_wrote_stays_and_fields_are_made_anew():
    page = text(f"# Results\n\nWords.\n\n{START}\n\nold fields\n")
    assert page.startswith(f"# Results\n\nWords.\n\n{START}\n")
    assert "old fields" not in page
    assert "| `weights_sha256` | text | yes | of the trained weights |" in page
    assert "| `peak_bytes` | integer or null |  | most that torch's allocator" in page
    assert "| `tasks` | [TaskScore](#taskscore) by name | yes |" in page
    assert "\n### TaskScore\n" in page


def test_every_key_of_made_up_results_is_on_the_page(tmp_path):
    study = made_up_study(run=["owlore"])
    write_made_up_results(study, tmp_path, resources=tmp_path / "resources")
    cell = "mini/tiny_model/owlore/seed0"
    sections = {
        part.split("`")[1]: part for part in PAGE.read_text().split("### ") if part[0] == "`"
    }
    assert set(sections) == set(FILES)
    seen = 0
    for file in FILES:
        real = file.replace("<track>/<model>/<method>/seed<k>", cell).replace("<track>", "mini")
        real = real.replace("<model>", "tiny_model").replace("<benchmark>", "mmlu")
        path = tmp_path / real
        if path.exists():  # data/ is not made up
            first = path.read_text() if path.suffix == ".json" else path.read_text().split("\n")[0]
            assert all(f"| `{key}` |" in sections[file] for key in json.loads(first)), file
            seen += 1
    assert seen == len(FILES) - 1
