"""A tiny judge that really rates: a Llama whose weights are set by hand, not trained.

It writes "Rating: [[k]]" after any chat, whatever the length, and k depends on the whole text. Each
token's embedding is one-hot; the head says which token follows which; one attention layer averages
random values over the text, which decide the digit.
"""

from pathlib import Path

import torch
from support.small_models import tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

REPLY = ["R", "a", "t", "in", "g", ":", "Ġ", "[[", None, "]]", "<|im_end|>"]  # None: the digit
DIGITS = "23456789"
SIZE = 320  # one-hot tokens, then a dimension a digit


def save_rating_judge(folder: Path) -> Path:
    """Save the model and its tokenizer as a checkpoint; return `folder`."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["[[", "]]"])
    words = len(tokenizer)
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=SIZE,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=32768,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).train(False)
    model.generation_config.eos_token_id = 2
    ids = dict(tokenizer.get_vocab())
    digits = [ids[digit] for digit in DIGITS]
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        layer = model.model.layers[0]
        model.model.embed_tokens.weight[:, :words] = torch.eye(words)
        values = torch.randn(len(digits), words, generator=chance)
        values[:, digits] *= 12  # a few rare tokens decide, or all texts would be rated alike
        layer.self_attn.v_proj.weight[: len(digits), :words] = values
        for place, digit in enumerate(digits):
            layer.self_attn.o_proj.weight[words + place, place] = 1.0
            model.lm_head.weight[digit, words + place] = 1.0
        before = ids["Ċ"]  # the template's last token
        for word in REPLY:
            followers = digits if word is None else [ids[word]]
            for previous in [before] if isinstance(before, int) else before:
                for follower in followers:
                    model.lm_head.weight[follower, previous] = 100.0
            before = digits if word is None else ids[word]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
