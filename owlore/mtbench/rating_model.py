"""A local checkpoint as judge: the rating that it expects, read off its probabilities.

It needs no endpoint, never fails to give a rating and is deterministic, so that it exercises the
whole path. A model too small to grade makes it a plumbing check, NOT an MT-Bench score.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from owlore.mtbench.encoding import encode, window
from owlore.mtbench.protocol import RATINGS
from owlore.sources.models import load, load_tokenizer

PREFIX = "Rating: [["
MAX_PROMPT_TOKENS = 1536  # a longer prompt loses its beginning

Row = dict[str, Any]


def open_model(folder: Path, device: str) -> Callable[[Row], tuple[str, Row]]:
    """Load the judge of `folder`; return what takes a request and gives the judgment and columns.

    The column is truncated_tokens: what was cut off the prompt's beginning.
    """
    tokenizer = load_tokenizer(folder)
    model = load(folder)
    model.to(device).eval()  # type: ignore[arg-type]
    name = folder.absolute().name

    def ask(request: Row) -> tuple[str, Row]:
        logprobs, cut = rating_logprobs(model, tokenizer, request["messages"])
        ratings = torch.tensor(list(RATINGS), dtype=torch.float64)
        expected = float((logprobs.softmax(0) * ratings).sum())
        text = (
            f"Mean of the ratings 1 to 10, weighted by the probability that {name} gives them as "
            f"its next words ({logprobs.exp().sum():.3g} together). {PREFIX}{expected:.4f}]]"
        )
        return text, {"truncated_tokens": cut}

    return ask


@torch.inference_mode()
def rating_logprobs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]
) -> tuple[torch.Tensor, int]:
    """Return the log probability of each rating's text, "1]]" to "10]]", after `PREFIX`.

    The ten whole texts are tokenised, so that any tokeniser's cut is right ("10" one token or two,
    "]]" with a digit or alone). The tokens they share are read once.

    Returns:
        float64 tensor (10,), and the number of tokens cut off the prompt's beginning.
    """
    endings = tuple(f"{PREFIX}{rating}]]" for rating in RATINGS)
    texts = encode(tokenizer, messages, endings)
    columns = enumerate(zip(*texts, strict=False))
    shared = next(place for place, column in columns if len(set(column)) > 1)
    tails = [text[shared:] for text in texts]
    longest = max(map(len, tails))
    limit = min(MAX_PROMPT_TOKENS, window(model, longest) or MAX_PROMPT_TOKENS)
    cut = max(0, shared - limit)
    sliding = getattr(model.config.get_text_config(), "sliding_window", None)
    if sliding is not None and shared - cut + longest > sliding:
        # What a token sees depends on where it stands: nothing is shared.
        return _one_by_one(model, texts[0][cut:shared], tails), cut

    prompt = torch.tensor([texts[0][cut:shared]], device=model.device)
    output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    first = output.logits[0, -1].double().log_softmax(-1)
    total = first[[tail[0] for tail in tails]]
    # The ten tails lie behind each other in one row; each sees the prompt and itself.
    tokens = [token for tail in tails for token in tail[:-1]]
    if not tokens:
        return total.cpu(), cut
    places = torch.tensor([place for tail in tails for place in range(len(tail) - 1)])
    owners = torch.tensor([owner for owner, tail in enumerate(tails) for _ in tail[:-1]])
    hidden = (owners[:, None] != owners) | (places[:, None] < places)
    mask = torch.zeros(len(tokens), shared - cut + len(tokens), dtype=model.dtype)
    mask[:, shared - cut :].masked_fill_(hidden, torch.finfo(model.dtype).min)
    later = model(
        input_ids=torch.tensor([tokens], device=model.device),
        attention_mask=mask[None, None].to(model.device),
        position_ids=(shared - cut + places)[None].to(model.device),
        past_key_values=output.past_key_values,
    ).logits[0]
    following = torch.tensor([token for tail in tails for token in tail[1:]], device=model.device)
    steps = later.double().log_softmax(-1).gather(1, following[:, None])[:, 0]
    total = total.index_add(0, owners.to(model.device), steps)
    return total.cpu(), cut


def _one_by_one(model: PreTrainedModel, prompt: list[int], tails: list[list[int]]) -> torch.Tensor:
    """Return the log probability of each tail after the prompt, a forward pass a tail."""
    totals = []
    for tail in tails:
        ids = torch.tensor([prompt + tail[:-1]], device=model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(tail)).logits[0]
        wanted = torch.tensor(tail, device=model.device)[:, None]
        totals.append(logits.double().log_softmax(-1).gather(1, wanted).sum())
    return torch.stack(totals).cpu()
