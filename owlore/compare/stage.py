"""Tables, figures and the hashes of what they were made from, of a finished study.

Run as: `owlore tables --study STUDY.yaml`, or `snakemake --cores all tables`.
"""

from pathlib import Path

from owlore.compare import figures, lineage, tables
from owlore.compare.results import load
from owlore.study.config import Study


def run(study: Study, root: Path) -> None:
    """Write tables/, figures/ and tables/sources.json below `root`, which is `results/<study>`.

    Raises:
        BadInput, OwloreError: see `owlore.compare.results.load`.
    """
    results = load(study, root)
    tables.write_tables(results)
    lineage.write_sources(results)
    figures.write_figures(results)
