"""A faster lm-eval model for multiple choice: what requests share is read once.

lm-eval's `HFLM` scores the choices of a question one by one and reads the whole context again for
each. Here one piece of a row holds

    context | choice 1 | choice 2 | ...

and a four-dimensional attention mask lets every choice see the context and itself only; positions
restart behind the context for each choice. Pieces are packed into rows until hardly any padding is
left, and the output head runs only on positions that predict a token of a choice. Where many
contexts begin alike (the five shots of an MMLU subject), that prefix is read once and its keys and
values are cached. Log-likelihoods are those of `HFLM` up to rounding. In half precision the two
differ more, as they round in other places: logits are normalised in float32 here, in half
precision there.

    lm = SharedPrefixLM(pretrained=model, tokenizer=tokenizer, batch_size=16, max_length=1024)
    lm_eval.simple_evaluate(model=lm, tasks=["arc_easy"])
"""

import copy
import inspect
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache

from owlore.core.errors import BadInput
from owlore.core.progress import Progress
from owlore.evaluate.prefix_layout import (
    PREFIX_TOKENS,
    Family,
    Piece,
    Tokens,
    batches,
    families,
    layout,
)
from owlore.sources import models

Request = tuple[tuple[str, str] | None, list[int], list[int]]
Answer = tuple[float, bool]


class SharedPrefixLM(HFLM):  # type: ignore[misc]
    """`HFLM` whose log-likelihood requests with the same context share it.

    Takes `HFLM`'s arguments; `batch_size` is a number: a batch has as many tokens as `batch_size`
    of the longest pieces.

    Attributes:
        why_plain: why requests go through `HFLM`'s own code, None if they share their context.
            Asked for with `share=False`, and automatic for models that cannot do it (see
            `_why_plain`).
        truncated: the (context, continuation) pairs that lost tokens on the left to fit into
            `max_length`, by `HFLM`'s rule; (context, None) where an answer is generated.
        bar: progress over several calls; None: each call shows its own.
    """

    def __init__(self, *args: Any, share: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.truncated: set[tuple[str, str | None]] = set()
        self.bar: Progress | None = None
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

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate as `HFLM` does, and note which contexts it has to cut."""
        for request in requests:
            context, settings = request.args
            room = self.max_length - settings.get("max_gen_toks", self.max_gen_toks)
            if len(self.tok_encode(context)) > room:
                self.truncated.add((context, None))
        generated: list[str] = super().generate_until(requests, disable_tqdm=disable_tqdm)
        return generated

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

        answers: dict[tuple[Tokens, Tokens], Answer] = {}
        with self._progress(len(requests), disable_tqdm) as progress:
            for family in families(groups):
                cache = self._read(family)
                for batch in batches(family, self.batch_size):
                    scores = self._score(batch, family.prefix, cache)
                    answers.update(scores)
                    progress.update(sum(asked[key] for key in scores))
        for (texts, _, _), key in zip(requests, keys, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answers[key])
        return [answers[key] for key in keys]

    @contextmanager
    def _progress(self, requests: int, disable: bool) -> Iterator[Progress]:
        """Yield the bar over all tasks, if there is one, else a bar of these requests' own."""
        if self.bar is not None:
            yield self.bar
            return
        with Progress(total=requests, desc="scoring", disable=disable) as own:
            yield own

    def _read(self, family: Family) -> DynamicCache | None:
        """Run the model over a family's prefix; return its keys and values."""
        if not family.prefix:
            return None
        ids = torch.tensor([family.prefix], device=self.device)
        with torch.no_grad(), self._autocast():
            cache: DynamicCache = self.model(
                input_ids=ids, use_cache=True, logits_to_keep=1
            ).past_key_values
        return cache

    def _score(
        self, batch: Sequence[list[Piece]], prefix: Tokens, cache: DynamicCache | None
    ) -> dict[tuple[Tokens, Tokens], Answer]:
        """Run the model once; return the answer for each (context, continuation) of the rows."""
        ids, positions, allowed, targets = layout(batch, len(prefix))
        # Additive, because eager attention adds the mask; a boolean one only suits sdpa.
        mask = torch.zeros(allowed.shape, dtype=self.model.dtype)
        mask.masked_fill_(~allowed, torch.finfo(mask.dtype).min)
        row, column, token = targets.unbind(1)
        keep = torch.zeros_like(ids, dtype=torch.bool)
        keep[row, column] = True
        place = (keep.flatten().cumsum(0) - 1).view_as(keep)[row, column]  # among the kept ones
        with torch.no_grad(), self._autocast():
            logits = self.model(
                input_ids=ids.to(self.device),
                attention_mask=mask[:, None].to(self.device),
                position_ids=positions.to(self.device),
                past_key_values=_repeated(cache, len(batch)),
                use_cache=cache is not None,
                logits_to_keep=keep.to(self.device),
            ).logits.float()  # [kept positions, vocabulary]
        place, token = place.to(self.device), token.to(self.device)
        log_probabilities = (logits[place, token] - logits.logsumexp(-1)[place]).tolist()
        greedy = (logits.argmax(-1)[place] == token).tolist()

        values, hits = iter(log_probabilities), iter(greedy)
        return {
            (prefix + context, tokens): (
                sum(islice(values, len(tokens))),
                all([*islice(hits, len(tokens))]),
            )
            for pieces in batch
            for context, continuations in pieces
            for tokens in continuations
        }

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            device_type=self.device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        )

    def _why_plain(self) -> str | None:
        """Return why this model cannot share contexts, or None.

        What the configuration tells is read there; the rest (attention biases, masks that are
        ignored, ...) shows when a few made-up requests are scored both ways.
        """
        model = models.without_adapter(self.model)
        config = model.config.get_text_config()
        needed = {"attention_mask", "position_ids", "past_key_values", "logits_to_keep"}
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

        prefix = [5 + place % 30 for place in range(PREFIX_TOKENS)]
        made_up: list[Request] = [
            (None, context, continuation)
            for context, continuation in (
                (prefix[:9], [30, 31, 32]),
                (prefix[:9], [40, 41]),
                (prefix[1:5], [30, 31, 32, 33]),
                ([*prefix, 40], [30, 31]),
                ([*prefix, 41, 42], [30, 31]),
            )
            if len(context) + len(continuation) <= self.max_length
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


def _repeated(cache: DynamicCache | None, rows: int) -> DynamicCache | None:
    """Return a copy of a prefix's keys and values for each row; the model appends to it."""
    if cache is None:
        return None
    repeated = copy.deepcopy(cache)
    repeated.batch_repeat_interleave(rows)
    return repeated
