"""How requests that share tokens are laid out as rows of a batch; only bookkeeping, no model.

A *piece* is one context and the continuations scored after it. Pieces whose contexts begin alike
form a *family*: their common prefix is read once, and the pieces go on from there.

    prefix ─┬─ context | choice 1 | choice 2 | …
            └─ context | choice 1 | …
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

Tokens = tuple[int, ...]

# The choices of one piece take at most this many tokens, or as many as its context if that is
# longer: thousands of continuations of one empty context must not become one huge row.
CHOICE_TOKENS = 256
# Rows are at least this wide, to pack short pieces without gaps. Attention costs little up to here.
ROW_TOKENS = 256
# A common prefix shorter than this is not worth a forward pass of its own.
PREFIX_TOKENS = 64


class Piece(NamedTuple):
    """One context, without the family's prefix, and some of the continuations after it."""

    context: Tokens
    continuations: list[Tokens]

    @property
    def extra(self) -> int:
        """Tokens behind the context. The last token of a continuation is predicted, not read."""
        return sum(len(tokens) - 1 for tokens in self.continuations)

    @property
    def length(self) -> int:
        """All tokens that are read."""
        return len(self.context) + self.extra


class Family(NamedTuple):
    """Pieces that follow one prefix; those that share nothing follow the empty one."""

    prefix: Tokens
    pieces: list[Piece]


def families(groups: dict[Tokens, list[Tokens]]) -> list[Family]:
    """Group contexts (with their continuations) by the prefix that is worth reading once.

    In sorted order contexts that begin alike are neighbours. A run of neighbours grows as long as
    that saves more tokens than it costs, by making the common prefix shorter.
    """
    alone: list[Piece] = []
    found: list[Family] = []
    run: list[Tokens] = []
    prefix: Tokens = ()

    def close() -> None:
        if len(run) == 1:
            alone.extend(_pieces(run[0], groups[run[0]]))
        elif run:
            cut = len(prefix)
            pieces = [p for c in run for p in _pieces(c[cut:], groups[c])]
            found.append(Family(prefix, pieces))

    for context in sorted(groups):
        # At least one token stays behind the prefix: it predicts the first token of a choice.
        shared = prefix[: _common(prefix, context[:-1])]
        saves = len(run) * len(shared) > (len(run) - 1) * len(prefix)
        if run and len(shared) >= PREFIX_TOKENS and saves:
            run.append(context)
            prefix = shared
        else:
            close()
            run, prefix = [context], context[:-1]
    close()
    return [*found, Family((), alone)] if alone else found


def batches(family: Family, batch_size: int) -> Iterator[list[list[Piece]]]:
    """Pack pieces into rows, always the longest that still fits, and yield rows in batches.

    A batch has as many tokens, prefix included, as `batch_size` of the longest pieces.
    """
    remaining = sorted(family.pieces, key=lambda piece: piece.length)
    longest = remaining[-1].length if remaining else 0
    width = max(longest, ROW_TOKENS)
    rows: list[list[Piece]] = []
    while remaining:
        row: list[Piece] = []
        room = width
        while fitting := bisect_right(remaining, room, key=lambda piece: piece.length):
            row.append(remaining.pop(fitting - 1))
            room -= row[-1].length
        rows.append(row)
    before = len(family.prefix)
    rows_per_batch = max(1, batch_size * (before + longest) // (before + width))
    for start in range(0, len(rows), rows_per_batch):
        yield rows[start : start + rows_per_batch]


class Layout(NamedTuple):
    """Rows of pieces as tensors."""

    ids: torch.Tensor  # [rows, columns]
    positions: torch.Tensor  # [rows, columns]
    allowed: torch.Tensor  # [rows, columns, prefix + columns]: the query (dim 1) sees the key
    targets: torch.Tensor  # [tokens to predict, 3]: row and column that predict it, the token


def layout(batch: Sequence[list[Piece]], before: int = 0) -> Layout:
    """Lay rows of pieces out that follow a prefix of `before` tokens.

    Padding attends to itself only, so that no softmax is empty. Targets come in the order of the
    continuations.
    """
    columns = max(sum(piece.length for piece in pieces) for pieces in batch)
    ids = torch.zeros(len(batch), columns, dtype=torch.long)
    positions = torch.zeros_like(ids)
    own = torch.eye(columns, dtype=torch.bool).repeat(len(batch), 1, 1)
    prefix = torch.zeros(len(batch), columns, before, dtype=torch.bool)
    targets: list[tuple[int, int, int]] = []

    for row, pieces in enumerate(batch):
        column = 0
        for context, continuations in pieces:
            shared = slice(column, column + len(context))
            ids[row, shared] = torch.tensor(context)
            positions[row, shared] = before + torch.arange(len(context))
            own[row, shared, shared] = _causal(len(context))
            column = shared.stop
            for tokens in continuations:
                new = slice(column, column + len(tokens) - 1)
                ids[row, new] = torch.tensor(tokens[:-1], dtype=torch.long)
                positions[row, new] = before + len(context) + torch.arange(len(tokens) - 1)
                own[row, new, shared] = True
                own[row, new, new] = _causal(len(tokens) - 1)
                predicted_by = [shared.stop - 1, *range(new.start, new.stop)]
                targets += [(row, *pair) for pair in zip(predicted_by, tokens, strict=True)]
                column = new.stop
        prefix[row, :column] = True
    return Layout(ids, positions, torch.cat([prefix, own], dim=2), torch.tensor(targets))


def _pieces(context: Tokens, continuations: Sequence[Tokens]) -> Iterator[Piece]:
    """Spread the continuations of one context over as few pieces as `CHOICE_TOKENS` allows."""
    room = max(len(context), CHOICE_TOKENS)
    piece = Piece(context, [])
    for continuation in continuations:
        if piece.continuations and piece.extra + len(continuation) > room:
            yield piece
            piece = Piece(context, [])
        piece.continuations.append(continuation)
    yield piece


def _common(one: Tokens, other: Tokens) -> int:
    """Return how many tokens two sequences begin with alike."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()
