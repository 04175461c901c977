"""How requests are laid out: shared prefixes, packing, and what each token may see."""

from hypothesis import given, settings
from hypothesis import strategies as st

from owlore.evaluate.prefix_layout import ROW_TOKENS, Family, Piece, _pieces, batches, families


def test_a_prefix_is_read_once_and_only_where_it_pays() -> None:
    long, short = tuple(range(100)), tuple(range(10))
    groups = {(*long, 200 + i): [(1,), (2,)] for i in range(5)} | {(*short, 300): [(1,)]}
    first, second = families(groups)
    assert first.prefix == long and len(first.pieces) == 5
    assert {piece.context for piece in first.pieces} == {(200 + i,) for i in range(5)}
    assert second == Family((), [Piece((*short, 300), [(1,)])])


def test_a_family_does_not_give_up_a_long_prefix_for_one_more_member() -> None:
    long = tuple(range(500))
    groups = {(*long, 600 + i): [(1,)] for i in range(4)} | {(*long[:70], 900): [(1,)]}
    prefixes = {family.prefix: len(family.pieces) for family in families(groups)}
    assert prefixes == {long: 4, (): 1}


def test_the_whole_context_is_never_prefix() -> None:
    long = tuple(range(80))
    (family,) = families({long: [(1,)], (*long, 5): [(1,)]})
    assert family.prefix == long[:-1]
    assert sorted(piece.context for piece in family.pieces) == [(79,), (79, 5)]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 400), st.lists(st.integers(1, 60), min_size=1))),
    batch_size=st.integers(1, 20),
)
def test_packing_keeps_every_continuation(
    lengths: list[tuple[int, list[int]]], batch_size: int
) -> None:
    pieces: list[Piece] = []
    for number, (context, choices) in enumerate(lengths):
        choices = [(number, index, *[0] * (n - 1))[:n] for index, n in enumerate(choices)]
        pieces += _pieces((number,) * context, choices)
    made = list(batches(Family((), pieces), batch_size))
    rows = [row for batch in made for row in batch]
    packed = [piece for row in rows for piece in row]
    assert sorted(packed) == sorted(pieces)
    assert sum(len(piece.continuations) for piece in packed) == sum(len(c) for _, c in lengths)
    longest = max((piece.length for piece in pieces), default=0)
    for batch in made:
        widths = [sum(piece.length for piece in row) for row in batch]
        assert max(widths) <= max(longest, ROW_TOKENS)
        assert len(batch) == 1 or len(batch) * max(longest, ROW_TOKENS) <= batch_size * longest


def test_many_continuations_of_one_context_are_spread() -> None:
    pieces = list(_pieces((1,), [(5, 6, 7)] * 1000))
    assert max(piece.length for piece in pieces) <= 260
    assert sum(len(piece.continuations) for piece in pieces) == 1000
