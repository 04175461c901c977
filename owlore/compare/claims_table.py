"""The table of the paper's claims, beside what this study measured of each."""

from owlore.compare.paper import Claim, claims
from owlore.compare.results import Results
from owlore.compare.table_formats import NOTHING, Column, Table, Value, interval, number, signed
from owlore.compare.table_parts import accepted_notes, covered, lead_columns, shared
from owlore.study.benchmarks import FAMILIES


def claims_table(results: Results) -> Table:
    """Return the abstract's claims with what this study measured, and a verdict with its reason."""
    held = claims(results)
    groups = [claim.group for claim in held]
    columns: list[Column[Claim]] = [
        Column("claim", lambda claim: Value(claim.claim), "prose"),
        *lead_columns(groups),
        Column("measured here", _measured, "prose"),
        Column("95 % interval", lambda claim: interval(claim.low, claim.high)),
        Column("verdict", lambda claim: Value(claim.verdict), "text"),
        Column("reason", lambda claim: Value(claim.reason), "prose"),
    ]
    notes = [
        "Claims: abstract of arXiv 2405.18380. Measured: OwLore minus the best baseline, the one "
        "with the highest average of those in the study (picked after the fact, in its favour). "
        "The abstract's accuracy gains are read as points; MT-Bench as per cent of the score.",
        "Supported: the 95 % interval excludes zero and reaches the claimed gain.",
        covered(results.study.seeds),
        *accepted_notes(results, *FAMILIES),
    ]
    title = "The paper's claims" + shared(groups)
    return Table.of("claims", title, columns, held, notes, [claim.record() for claim in held])


def _measured(claim: Claim) -> Value:
    if claim.measured is None:
        return Value(NOTHING)
    if claim.baseline is None:
        return number(claim.measured, 1, f" {claim.unit}")
    text = f"{signed(claim.measured).text} {claim.unit} ({claim.method} minus {claim.baseline})"
    return Value(text, claim.measured)
