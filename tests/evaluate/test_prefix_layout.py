"""How requests are laid out: shared prefixes, packing, and what each token may see."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from owlore.evaluate.prefix_layout import (
    ROW_TOKENS,
    Family,
    Piece,
    _pieces,
    batches,
    families,
    layout,
)


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


PIECE = st.tuples(
    st.lists(st.integers(1, 99), min_size=1, max_size=5),
    st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=4), min_size=1, max_size=3),
)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.lists(st.lists(PIECE, min_size=1, max_size=3), min_size=1, max_size=3),
    before=st.integers(0, 3),
)
def test_every_token_is_predicted_from_all_that_comes_before_it_and_nothing_else(
    batch: list[list[tuple[list[int], list[list[int]]]]], before: int
) -> None:
    """Oracle: each choice read alone, from the prefix's first token to its own last but one."""
    rows = [[Piece(tuple(c), [tuple(k) for k in ks]) for c, ks in row] for row in batch]
    made = layout(rows, before)
    prefix = [-1 - place for place in range(before)]
    keys = torch.cat([torch.tensor(prefix).repeat(len(rows), 1), made.ids], dim=1)
    positions = torch.arange(before).repeat(len(rows), 1)
    positions = torch.cat([positions, made.positions], dim=1)
    wanted = [
        (row, (*prefix, *piece.context, *choice[:place]), token)
        for row, pieces in enumerate(rows)
        for piece in pieces
        for choice in piece.continuations
        for place, token in enumerate(choice)
    ]
    assert len(made.targets) == len(wanted)
    for (row, column, token), (row_, read, token_) in zip(
        made.targets.tolist(), wanted, strict=True
    ):
        seen = made.allowed[row, column].nonzero()[:, 0]
        by_position = sorted((int(positions[row, key]), int(keys[row, key])) for key in seen)
        assert (row, token) == (row_, token_)
        assert by_position == list(enumerate(read))


def test_padding_sees_itself_only() -> None:
    rows = [[Piece((1, 2, 3), [(4,)])], [Piece((5,), [(6,)])]]
    allowed = layout(rows, before=2).allowed[1]
    assert allowed[0].tolist() == [True, True, True, False, False]
    assert allowed[1].nonzero()[:, 0].tolist() == [3]
    assert allowed[2].nonzero()[:, 0].tolist() == [4]
