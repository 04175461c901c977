"""What is written of a table: escapes, exact numbers, numbers for people."""

import csv
import io

from owlore.compare.table_formats import Column, Table, Value, number, to_csv, to_latex, to_markdown

NASTY = r"a_b|c & 50% $x$ #1 {y} ~ ^ \n <script> *bold* `code` [link]"


def nasty_table() -> Table:
    return Table.of(
        "nasty",
        NASTY,
        [Column(NASTY, lambda row: Value(row[0]), "text"), Column("value", lambda row: row[1])],
        [(NASTY, number(-0.04))],
        [NASTY],
        [{"name": NASTY, "value": 0.1 + 0.2}],
    )


def test_latex_special_characters_are_escaped():
    text = to_latex(nasty_table())
    escaped = (
        r"a\_b\textbar{}c \& 50\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{}n \textless{}script\textgreater{}"
    )
    assert text.count(escaped) == 4
    row = next(line for line in text.splitlines() if line.endswith(r"0.0 \\"))
    assert row.replace(r"\&", "").count("&") == 1  # two columns


def test_markdown_special_characters_are_escaped():
    text = to_markdown(nasty_table())
    assert text.count(r"a\_b\|c &amp; 50% \$x\$ \#1 \{y\} \~ ^ \\n &lt;script&gt; \*bold\*") == 4
    assert "<script>" not in text
    row = next(line for line in text.splitlines() if line.endswith("0.0 |"))
    assert row.replace(r"\|", "").count("|") == 3  # two columns


def test_csv_is_exact_and_quotes():
    rows = list(csv.DictReader(io.StringIO(to_csv(nasty_table()))))
    assert rows == [{"name": NASTY, "value": repr(0.1 + 0.2)}]


def test_numbers_are_printed_for_people():
    assert number(1234567.8, 1).text == "1,234,567.8"
    assert number(-3.25, 1).text == "−3.2"
    assert number(-0.01, 1).text == "0.0"
    assert number(None).text == "–"
