"""Decoding a batch of prompts, each row with its own temperature and random generator.

transformers' `generate` draws all rows from one generator, so that an answer would depend on what
else is in its batch; and it pads all prompts to the longest before it reads them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from owlore.core.progress import Progress

# Prompts are read together where the longest has at most this many times the shortest's tokens.
ALIKE = 1.25


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    *,
    temperatures: list[float],
    generators: list[torch.Generator],
    stops: set[int],
    max_new_tokens: int,
    bar: Progress | None = None,
) -> list[list[int]]:
    """Decode a batch of prompts, each row with its own temperature and generator.

    A row with temperature 0 takes the most likely token. Rows leave the batch at a stop token,
    which is not returned.

    Args:
        model: a causal language model.
        prompts: token ids, a list a row.
        temperatures: one a row.
        generators: one a row, on the CPU; a row draws once a step from its own.
        stops: ids of the tokens that end an answer.
        max_new_tokens: most tokens a row, at least 1.
        bar: advanced by one a step.

    Returns:
        New token ids, a list a row.
    """
    cache, mask, logits = _read(model, prompts)
    alive = list(range(len(prompts)))
    found: list[list[int]] = [[] for _ in prompts]
    for step in range(max_new_tokens):
        if step:
            ids = torch.tensor([found[row][-1:] for row in alive], device=model.device)
            mask = pad(mask, (0, 1), value=1)
            logits = _forward(model, ids, mask, cache)
        if bar is not None:
            bar.update()
        kept = []
        for slot, row in enumerate(alive):
            token = _draw(logits[slot], temperatures[row], generators[row])
            if token not in stops:
                found[row].append(token)
                kept.append(slot)
        if not kept:
            break
        if len(kept) < len(alive):
            alive = [alive[slot] for slot in kept]
            cache.batch_select_indices(torch.tensor(kept, device=model.device))
            mask = mask[kept]
    return found


def _read(model: PreTrainedModel, prompts: list[list[int]]) -> tuple[DynamicCache, Tensor, Tensor]:
    """Read the prompts, those of like length together: padding would cost as much as text.

    Returns:
        The cache, as if all rows had been padded on the left to the longest; the mask of what is
        not padding, shape (rows, longest); the logits of each row's last token, (rows, words).
    """
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    groups: list[list[int]] = [[]]
    for row in order:
        if groups[-1] and len(prompts[row]) > ALIKE * len(prompts[groups[-1][0]]):
            groups.append([])
        groups[-1].append(row)
    whole = DynamicCache(config=model.config)
    if not all(type(layer) is DynamicLayer for layer in whole.layers):
        groups = [order]  # a sliding window's keys or a recurrent state cannot be padded afterwards
    read = [_read_group(model, [prompts[row] for row in group]) for group in groups]
    if len(read) == 1:
        whole, mask, logits = read[0]
    else:
        width = read[-1][1].shape[1]
        mask = torch.cat([pad(mask, (width - mask.shape[1], 0)) for _, mask, _ in read])
        logits = torch.cat([logits for _, _, logits in read])
        for index in range(len(whole.layers)):
            whole.update(*_stacked([cache.layers[index] for cache, _, _ in read], width), index)
    back = torch.tensor(order, device=model.device).argsort()
    whole.batch_select_indices(back)
    return whole, mask[back], logits[back]


def _read_group(
    model: PreTrainedModel, prompts: list[list[int]]
) -> tuple[DynamicCache, Tensor, Tensor]:
    width = max(map(len, prompts))
    gaps = [width - len(row) for row in prompts]
    ids = torch.tensor([[0] * gap + row for gap, row in zip(gaps, prompts, strict=True)])
    mask = torch.tensor([[0] * gap + [1] * (width - gap) for gap in gaps]).to(model.device)
    cache = DynamicCache(config=model.config)
    return cache, mask, _forward(model, ids.to(model.device), mask, cache)


def _stacked(layers: list[Any], width: int) -> tuple[Tensor, Tensor]:
    """Put the keys and the values of groups one above the other, padded on the left to `width`."""
    keys = [pad(layer.keys, (0, 0, width - layer.keys.shape[-2], 0)) for layer in layers]
    values = [pad(layer.values, (0, 0, width - layer.values.shape[-2], 0)) for layer in layers]
    return torch.cat(keys), torch.cat(values)


def _forward(model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """Return the logits after the last of the new tokens, (rows, words), in float32."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    weights = torch.softmax(logits.cpu() / temperature, dim=-1)
    return int(torch.multinomial(weights, 1, generator=generator))
