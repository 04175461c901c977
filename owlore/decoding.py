"""Decoding a batch of prompts, each row with its own temperature and random generator.

transformers' `generate` draws all rows from one generator, so that an answer would depend on what
else is in its batch.
"""

import torch
from transformers import PreTrainedModel

from owlore.progress import Progress


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
        prompts: token ids, a list a row; they are padded on the left.
        temperatures: one a row.
        generators: one a row, on the CPU; a row draws once a step from its own.
        stops: ids of the tokens that end an answer.
        max_new_tokens: most tokens a row.
        bar: advanced by one a step.

    Returns:
        New token ids, a list a row.
    """
    device = model.device
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts]).to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = None
    alive = list(range(len(prompts)))
    found: list[list[int]] = [[] for _ in prompts]
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = output.past_key_values, output.logits[:, -1].float()
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
            cache.batch_select_indices(torch.tensor(kept, device=device))
            mask, positions = mask[kept], positions[kept]
        ids = torch.tensor([found[row][-1:] for row in alive], device=device)
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return found


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    weights = torch.softmax(logits.cpu() / temperature, dim=-1)
    return int(torch.multinomial(weights, 1, generator=generator))
