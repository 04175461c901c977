"""A faster lm-eval model for multiple choice: a question's context is read once, not per choice.

lm-eval's `HFLM` scores the choices of a question one by one and reads the whole context again for
each. Here one piece of a row holds

    context | choice 1 | choice 2 | ...

and a four-dimensional attention mask lets every choice see the context and itself only; positions
restart behind the context for each choice. Pieces are packed into rows until hardly any padding is
left, and the output head runs only on positions that predict a token of a choice. Log-likelihoods
are those of `HFLM` up to rounding. In half precision the two differ more, as they round in other
places: logits are normalised in float32 here, in half precision there.

    lm = SharedPrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=16, max_length=1024)
    lm_eval.simple_evaluate(model=lm, tasks=["arc_easy"])
"""

import inspect
import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from lm_eval.models.huggingface import HFLM

from owlore import models
from owlore.errors import BadInput
from owlore.progress import Progress

Tokens = tuple[int, ...]
Request = tuple[tuple[str, str] | None, list[int], list[int]]
Answer = tuple[float, bool]

# The choices of one piece take at most this many tokens, or as many as its context if that is
# longer: thousands of continuations of one empty context must not become one huge row.
CHOICE_TOKENS = 256
# Rows are at least this wide, to pack short pieces without gaps. Attention costs little up to here.
ROW_TOKENS = 256


class Piece(NamedTuple):
    """One context and some of the continuations that are scored after it."""

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


class SharedPrefixLM(HFLM):  # type: ignore[misc]
    """`HFLM` whose log-likelihood requests with the same context share it.

    Takes `HFLM`'s arguments; `batch_size` is a number: a batch has as many tokens as `batch_size`
    of the longest pieces.

    Attributes:
        why_plain: why requests go through `HFLM`'s own code, None if they share their context.
            Asked for with `share=False`, and automatic for models that cannot do it (see
            `_why_plain`).
        truncated: the (context, continuation) pairs that lost tokens on the left to fit into
            `max_length`, by `HFLM`'s rule.
    """

    def __init__(self, *args: Any, share: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.truncated: set[tuple[str, str]] = set()
        self.why_plain = self._why_plain() if share else "plain requests were asked for"

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        """Return (summed log-likelihood, whether greedy decoding gives it) for each request.

        A request is ((context, continuation) as text or None, context tokens, continuation tokens).

        Raises:
            BadInput: a context has no tokens; a continuation has none, or more than `max_length`.
        """
        self._check(requests)
        if self.why_plain is not None:
            plain: list[Answer] = super()._loglikelihood_tokens(
                requests, disable_tqdm=disable_tqdm, override_bs=override_bs
            )
            return plain
        return self._shared(requests, disable_tqdm)

    def _check(self, requests: list[Request]) -> None:
        for texts, context, continuation in requests:
            if not context:
                raise BadInput(f"questions: the context {texts and texts[0]!r} has no tokens")
            if not 0 < len(continuation) <= self.max_length:
                raise BadInput(
                    f"max_length: {self.max_length}: the choice {texts and texts[1]!r} has "
                    f"{len(continuation)} tokens"
                )
            if texts is not None and len(context) + len(continuation) > self.max_length + 1:
                self.truncated.add(texts)

    def _shared(self, requests: list[Request], disable_tqdm: bool) -> list[Answer]:
        """Score all requests, each distinct (context, continuation) once."""
        # HFLM reads the last max_length + 1 tokens, of which the very last is only predicted.
        keys = [
            (tuple(context[-(self.max_length + 1 - len(tokens)) :]), tuple(tokens))
            for _, context, tokens in requests
        ]
        asked = Counter(keys)
        groups: dict[Tokens, list[Tokens]] = defaultdict(list)
        for kept, continuation in asked:
            groups[kept].append(continuation)
        pieces = [piece for kept, group in groups.items() for piece in _pieces(kept, group)]

        answers: dict[tuple[Tokens, Tokens], Answer] = {}
        with Progress(total=len(requests), desc="scoring", disable=disable_tqdm) as progress:
            for batch in _batches(pieces, self.batch_size):
                scores = self._score(batch)
                answers.update(scores)
                progress.update(sum(asked[key] for key in scores))
        for (texts, _, _), key in zip(requests, keys, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answers[key])
        return [answers[key] for key in keys]

    def _score(self, batch: Sequence[list[Piece]]) -> dict[tuple[Tokens, Tokens], Answer]:
        """Run the model once; return the answer for each (context, continuation) of the rows."""
        ids, positions, allowed, targets = _layout(batch)
        # Additive, because eager attention adds the mask; a boolean one only suits sdpa.
        mask = torch.zeros(allowed.shape, dtype=self.model.dtype)
        mask.masked_fill_(~allowed, torch.finfo(mask.dtype).min)
        row, column, token = targets.unbind(1)
        keep = torch.zeros_like(ids, dtype=torch.bool)
        keep[row, column] = True
        place = (keep.flatten().cumsum(0) - 1).view_as(keep)[row, column]  # among the kept ones
        with (
            torch.no_grad(),
            torch.autocast(
                device_type=self.device.type,
                dtype=self.mixed_precision_dtype,
                enabled=self.mixed_precision_dtype is not None,
            ),
        ):
            logits = self.model(
                input_ids=ids.to(self.device),
                attention_mask=mask[:, None].to(self.device),
                position_ids=positions.to(self.device),
                use_cache=False,
                logits_to_keep=keep.to(self.device),
            ).logits.float()  # [kept positions, vocabulary]
        place, token = place.to(self.device), token.to(self.device)
        log_probabilities = (logits[place, token] - logits.logsumexp(-1)[place]).tolist()
        greedy = (logits.argmax(-1)[place] == token).tolist()

        values, hits = iter(log_probabilities), iter(greedy)
        return {
            (context, tokens): (sum(islice(values, len(tokens))), all([*islice(hits, len(tokens))]))
            for pieces in batch
            for context, continuations in pieces
            for tokens in continuations
        }

    def _why_plain(self) -> str | None:
        """Return why this model cannot share contexts, or None.

        What the configuration tells is read there; the rest (attention biases, masks that are
        ignored, ...) shows when a few made-up requests are scored both ways.
        """
        model = models.without_adapter(self.model)
        config = model.config.get_text_config()
        needed = {"attention_mask", "position_ids", "logits_to_keep"}
        if self.backend != "causal":
            return "not a causal language model"
        if missing := needed - set(inspect.signature(model.forward).parameters):
            return f"the model does not take {', '.join(sorted(missing))}"
        if any(peft.is_prompt_learning for peft in getattr(self.model, "peft_config", {}).values()):
            return "the adapter puts tokens of its own before the context"
        if config._attn_implementation not in ("eager", "sdpa"):
            return f"{config._attn_implementation} attention does not take a 4-D mask"
        window = getattr(config, "sliding_window", None) or getattr(
            config, "attention_chunk_size", None
        )
        if window is not None and window < self.max_length:
            return f"attention is limited to the last {window} tokens"

        made_up: list[Request] = [
            (None, list(range(5, 5 + length)), continuation)
            for length, continuation in ((9, [30, 31, 32]), (9, [40, 41]), (4, [30, 31, 32, 33]))
        ]
        try:
            shared = self._shared(made_up, disable_tqdm=True)
        except (RuntimeError, TypeError, ValueError) as error:
            return f"the model fails with a 4-D mask ({error})"
        plain = super()._loglikelihood_tokens(made_up, disable_tqdm=True)
        relative = 1e-4 if self.model.dtype in (torch.float32, torch.float64) else 0.02
        for (mine, _), (theirs, _) in zip(shared, plain, strict=True):
            same = abs(mine - theirs) <= 1e-3 + relative * abs(theirs)
            if not same and not math.isnan(theirs):  # a broken model is not the mask's fault
                return f"shared contexts change a log-likelihood from {theirs:.4f} to {mine:.4f}"
        return None


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


def _batches(pieces: Sequence[Piece], batch_size: int) -> Iterator[list[list[Piece]]]:
    """Pack pieces into rows, always the longest that still fits, and yield rows in batches."""
    remaining = sorted(pieces, key=lambda piece: piece.length)
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
    rows_per_batch = max(1, batch_size * longest // width)
    for start in range(0, len(rows), rows_per_batch):
        yield rows[start : start + rows_per_batch]


def _layout(
    batch: Sequence[list[Piece]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lay rows of pieces out as tensors.

    Padding attends to itself only, so that no softmax is empty.

    Returns:
        Token ids [rows, columns]; positions [rows, columns]; `allowed` [rows, columns, columns],
        true where the query (dim 1) sees the key (dim 2); and [tokens to predict, 3]: row and
        column of the position that predicts it, and the token, in order of the continuations.
    """
    columns = max(sum(piece.length for piece in pieces) for pieces in batch)
    ids = torch.zeros(len(batch), columns, dtype=torch.long)
    positions = torch.zeros_like(ids)
    allowed = torch.eye(columns, dtype=torch.bool).repeat(len(batch), 1, 1)
    targets: list[tuple[int, int, int]] = []

    for row, pieces in enumerate(batch):
        column = 0
        for context, continuations in pieces:
            shared = slice(column, column + len(context))
            ids[row, shared] = torch.tensor(context)
            positions[row, shared] = torch.arange(len(context))
            allowed[row, shared, shared] = _causal(len(context))
            column = shared.stop
            for tokens in continuations:
                own = slice(column, column + len(tokens) - 1)
                ids[row, own] = torch.tensor(tokens[:-1], dtype=torch.long)
                positions[row, own] = len(context) + torch.arange(len(tokens) - 1)
                allowed[row, own, shared] = True
                allowed[row, own, own] = _causal(len(tokens) - 1)
                predicted_by = [shared.stop - 1, *range(own.start, own.stop)]
                targets += [(row, *pair) for pair in zip(predicted_by, tokens, strict=True)]
                column = own.stop
    return ids, positions, allowed, torch.tensor(targets)


def _causal(length: int) -> torch.Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()
