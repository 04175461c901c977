"""One table, three files: CSV with raw numbers, Markdown and LaTeX (booktabs) for people.

A `Table` has both sides: `records` are flat rows of full-precision numbers for machines; `columns`,
`rows` and `notes` are what is printed. A column says what it prints of a row's object:

    columns = [
        Column("method", lambda cost: Value(cost.method), "text"),
        Column("seconds", lambda cost: number(cost.seconds, 1)),
    ]
    Table.of("costs", "Cost of training", columns, costs)

Names and notes may hold any character.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

Mark = Literal["", "best", "tie"]
NOTHING = "–"
TIE = "="


@dataclass(frozen=True)
class Value:
    """One printed cell: its text, the number behind it (for sorting), and its standing."""

    text: str
    number: float | None = None
    mark: Mark = ""


# A column that prints any object with a group will do for a table of rows that have one.
Row = TypeVar("Row", contravariant=True)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A printed column: its header, and what it shows of a row's object.

    `prose` columns may break over lines, `number` columns align right.
    """

    label: str
    value: Callable[[Row], Value]
    kind: Literal["text", "number", "prose"] = "number"


@dataclass(frozen=True)
class Table:
    """See the module docstring; a table without rows says why in its first note."""

    name: str
    title: str
    columns: list[Column[Any]] = field(default_factory=list)
    rows: list[list[Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        columns: Sequence[Column[Item]],
        items: Iterable[Item],
        notes: Sequence[str] = (),
        records: Sequence[dict[str, Any]] = (),
    ) -> "Table":
        """Build a table with one printed row for each object of `items`."""
        rows = [[column.value(item) for column in columns] for item in items]
        return cls(name, title, [*columns], rows, [*notes], [*records])


def number(value: float | None, digits: int = 1, suffix: str = "") -> Value:
    """Print a number with thousands separators and a real minus sign; None as a dash."""
    if value is None:
        return Value(NOTHING)
    return Value(f"{signless(f'{value:,.{digits}f}')}{suffix}", float(value))


def signed(value: float | None, factor: float = 1, digits: int = 1) -> Value:
    """Print `factor` times a difference with its sign; None as a dash."""
    if value is None:
        return Value(NOTHING)
    text = signless(f"{factor * value:.{digits}f}")
    return Value(text if text.startswith("−") or float(text) == 0 else f"+{text}", value)


def interval(low: float | None, high: float | None, factor: float = 1, digits: int = 1) -> Value:
    """Print an interval; it sorts by its lower end."""
    if low is None or high is None:
        return Value(NOTHING)
    return Value(f"{signed(low, factor, digits).text} to {signed(high, factor, digits).text}", low)


def p_value(value: float | None) -> Value:
    """Print a p value to three decimals, the smallest as a bound; None as a dash."""
    if value is None:
        return Value(NOTHING)
    return Value("< 0.001" if value < 0.001 else f"{value:.3f}", value)


def signless(text: str) -> str:
    """Write a minus as a minus sign, and never minus zero."""
    return re.sub(r"^-(?=[0.,]*$)", "", text).replace("-", "−")


def to_csv(table: Table) -> str:
    """Return the records, numbers in Python's shortest exact form, nothing for None.

    A table without records has one column, `note`, that says why.
    """
    records = table.records or [{"note": table.notes[0] if table.notes else "nothing to show"}]
    columns = list(dict.fromkeys(key for record in records for key in record))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def to_markdown(table: Table) -> str:
    """Return a GitHub table under its title, best in bold, ties with "=", notes as a list."""
    lines = [f"### {_markdown(table.title)}", ""]
    if table.rows:
        lines.append(_markdown_row([_markdown(column.label) for column in table.columns]))
        lines.append(
            _markdown_row(
                ["---:" if column.kind == "number" else ":---" for column in table.columns]
            )
        )
        for row in table.rows:
            cells = []
            for value in row:
                text = _markdown(value.text)
                cells.append(f"**{text}**" if value.mark == "best" else text + _tie(value, TIE))
            lines.append(_markdown_row(cells))
        lines.append("")
    lines += [f"- {_markdown(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    r"""Return a `table` environment; the document needs `\usepackage{booktabs}`."""
    shape = {"text": "l", "number": "r", "prose": "p{0.22\\linewidth}"}
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering", "\\small"]
    lines += [f"\\caption{{{_latex(table.title)}}}", f"\\label{{tab:{table.name}}}"]
    if table.rows:
        lines.append(f"\\begin{{tabular}}{{{''.join(shape[c.kind] for c in table.columns)}}}")
        lines.append("\\toprule")
        lines.append(_latex_row([_latex(column.label) for column in table.columns]))
        lines.append("\\midrule")
        for row in table.rows:
            cells = []
            for value in row:
                text = _latex(value.text)
                cells.append(
                    f"\\textbf{{{text}}}" if value.mark == "best" else text + _tie(value, "$=$")
                )
            lines.append(_latex_row(cells))
        lines += ["\\bottomrule", "\\end{tabular}"]
    lines.append("\\par\\smallskip\\raggedright\\footnotesize")
    lines += [f"{_latex(note)}\\par" for note in table.notes]
    return "\n".join([*lines, "\\end{table}"]) + "\n"


def _tie(value: Value, sign: str) -> str:
    return f" {sign}" if value.mark == "tie" else ""


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _markdown(text: str) -> str:
    """Escape what Markdown or inline HTML would take for markup; a cell stays on one line."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#$])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "’": "'",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
} | {sign: "\\" + sign for sign in "&%$#_{}"}


def _latex(text: str) -> str:
    """Escape LaTeX's special characters, one by one so that no escape is escaped again."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
