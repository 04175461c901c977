"""All tables of a study, each as CSV (raw numbers), Markdown and LaTeX.

Run as: `owlore tables --study STUDY.yaml`, or `snakemake --cores all tables`.
"""

from owlore.compare.claims_table import claims_table
from owlore.compare.contamination_table import contamination_table
from owlore.compare.cost_tables import efficiency_table, memory_table
from owlore.compare.mtbench_differences import mtbench_differences_table
from owlore.compare.mtbench_table import mtbench_table
from owlore.compare.results import Results
from owlore.compare.score_tables import accuracy_table
from owlore.compare.significance_table import significance_table
from owlore.compare.table_formats import Table, to_csv, to_latex, to_markdown
from owlore.core.files import write_text
from owlore.study.benchmarks import LM_EVAL

FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def write_tables(results: Results) -> None:
    """Write tables/{name}.{csv,md,tex} of a study; a table with nothing to show says so."""
    for table in make_tables(results):
        for ending, write in FORMATS.items():
            write_text(results.root / "tables" / f"{table.name}.{ending}", write(table))


def make_tables(results: Results) -> list[Table]:
    """Return every table of the study, in the order of the report."""
    return [
        claims_table(results),
        *(accuracy_table(results, benchmark) for benchmark in LM_EVAL),
        mtbench_table(results),
        mtbench_differences_table(results),
        contamination_table(results),
        significance_table(results),
        efficiency_table(results),
        memory_table(results),
    ]
