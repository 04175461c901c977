"""Figures: written, deterministic, with fixed colours; names that keep apart (numbers made up)."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.figure import Figure
from support.results_studies import METHODS, made_up_study
from support.results_tree import write_made_up_results

from owlore.compare.comparisons import difference
from owlore.compare.figure_style import RC, SPARE, STYLES, apart, styles, titles
from owlore.compare.figures import DRAWINGS, write_figures
from owlore.compare.pareto import front
from owlore.compare.results import Group, Results, load

GROUP = Group("mini", "tiny_model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    root, study = tmp_path_factory.mktemp("figures"), made_up_study()
    write_made_up_results(study, root)
    write_figures(load(study, root))
    return study, root, load(study, root)


def draw(name: str, results: Results) -> Figure:
    with rc_context(RC):  # as write_figures does
        return DRAWINGS[name](results)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts] + [
        panel.get_title(loc="left") for panel in figure.axes
    ]


def test_six_figures_as_svg_and_png_with_a_white_background(made):
    _, root, _ = made
    names = {"outliers", "layers", "loss", "tradeoff", "differences", "mtbench"}
    assert {path.name for path in (root / "figures").iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("svg", "png")
    }
    for name in names:
        svg = (root / "figures" / f"{name}.svg").read_text()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "fill: #ffffff" in svg
        assert (root / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_svg_bytes_are_deterministic(made, tmp_path: Path):
    study, root, _ = made
    write_made_up_results(study, tmp_path)
    write_figures(load(study, tmp_path))
    for path in sorted((root / "figures").glob("*.svg")):
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


def test_every_trained_method_is_named_and_has_its_colour(made):
    study, _, results = made
    loss = draw("loss", results)
    assert set(study.run) - {"base"} <= set(texts(loss))
    colours = {line.get_color() for line in loss.axes[0].lines}
    assert colours == {STYLES[method][0] for method in study.run if method != "base"}
    chances = front(results, GROUP, "commonsense")
    named = {f"{method} ({100 * chances[method]:.0f} %)" for method in study.run[1:]}
    assert named <= set(texts(draw("tradeoff", results)))


def test_the_front_is_the_cheapest_and_what_beats_all_cheaper(tmp_path: Path):
    study = made_up_study(run=["base", "full", "lora", "owlore"], seeds=[0, 1])  # lora is cheapest
    skill = {"base": -3, "lora": 2, "owlore": -1, "full": 2}
    write_made_up_results(study, tmp_path, skill=skill)
    chances = front(load(study, tmp_path), GROUP, "commonsense")
    assert chances["base"] == 1  # free
    assert chances["lora"] > 0.99
    assert chances["owlore"] < 0.01  # dearer than lora, and worse
    assert 0.01 < chances["full"] < 0.99  # dearer than lora, and as good


def test_differences_draws_the_intervals_of_the_stats(made):
    study, _, results = made
    figure = draw("differences", results)
    panels = {panel.get_title(loc="left"): panel for panel in figure.axes}
    assert set(panels) == {
        *("wordnet_category", "social_iqa_mini", "quartz_mini"),
        *("commonsense: average", "mmlu_mini"),
    }
    drawn = {tuple(np.round(line.get_xdata(), 6)) for line in panels["quartz_mini"].lines}
    for method in study.run[1:]:
        paired = difference(results, GROUP, "commonsense", method, "base", ["quartz_mini"])
        assert (round(100 * paired.low, 6), round(100 * paired.high, 6)) in drawn


def test_layer_map_covers_every_trained_step_and_layer(made):
    _, _, results = made
    figure = draw("layers", results)
    assert [title for title in texts(figure) if title] == ["lisa", "owlore", "owlore-full-rank"]
    for panel in figure.axes:
        entry = results.of(GROUP, panel.get_title(loc="left"))[0]
        area = sum(bar.get_width() * bar.get_height() for bar in panel.patches)
        assert area == pytest.approx(sum(entry.finetune.layer_activations))
        per_layer = np.zeros(len(entry.finetune.layer_activations))
        for bar in panel.patches:
            per_layer[round(bar.get_y() + 0.5)] += bar.get_width()
        assert per_layer.tolist() == entry.finetune.layer_activations


def test_nothing_to_show_is_said(tmp_path: Path):
    track = {"train": {"pool": 1}}
    study = made_up_study(run=["base"], tracks={"bare": track})
    write_made_up_results(study, tmp_path)
    (tmp_path / "outliers" / "tiny_model.json").unlink()
    results = load(study, tmp_path)
    for name in DRAWINGS:
        (text,) = [text.get_text() for text in draw(name, results).texts]
        assert text.endswith(".")


def test_the_nine_methods_and_the_others_are_told_apart():
    assert len({colour for colour, _ in STYLES.values()}) == len(STYLES) == 9
    assert not {colour for colour, _ in STYLES.values()} & {colour for colour, _ in SPARE}
    methods = {"mine": METHODS["lora"], **METHODS, "yours": METHODS["lora"]}
    found = styles(made_up_study(methods=methods, run=["mine", "yours"]))
    assert found["owlore"] == STYLES["owlore"]
    assert found["mine"] != found["yours"]


def test_titles_tell_what_differs():
    assert list(titles([Group("a", "m"), Group("b", "m")])) == ["a", "b"]
    assert list(titles([Group("a", "m")])) == ["m"]
    assert list(titles([Group("a", "m"), Group("b", "n")])) == ["a: m", "b: n"]


@given(st.lists(st.floats(-10, 10), max_size=12).map(sorted), st.floats(0.01, 2))
def test_labels_keep_their_distance_and_their_order(wanted, gap):
    places = apart(wanted, gap)
    assert (np.diff(places) >= gap - 1e-9).all()
    if len(wanted) and (np.diff(wanted) >= gap).all():
        assert places == pytest.approx(wanted)
    if wanted:
        assert np.mean(places) == pytest.approx(np.mean(wanted), abs=1e-9)


def test_mtbench_shows_each_method_where_its_scores_are(made):
    study, _, results = made
    figure = draw("mtbench", results)
    overall = figure.axes[0]
    assert overall.get_title(loc="left") == "overall"
    marks = {
        line.get_marker(): line.get_xdata()[0]
        for line in overall.lines
        if len(line.get_xdata()) == 1
    }
    for method in study.run:
        scores = [entry.judged[""].scores.overall for entry in results.of(GROUP, method)]
        assert marks[styles(study)[method][1]] == pytest.approx(np.mean(scores))
