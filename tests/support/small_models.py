"""Tiny models and a tiny tokenizer, built in memory: real architectures, random weights, no files.

Tests say `from support.small_models import tiny_llama` (pytest puts tests/ on the path).
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL = ("<pad>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2; <|im_end|> is eos
# A few merges, so that text has tokens of several letters and one can span a word's start.
MERGES = [("t", "h"), ("th", "e"), ("e", "r"), ("i", "n"), ("Ġ", "a"), ("Ġ", "the"), ("Ġ", "w")]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 266 tokens: any text, no unknown token, ChatML template."""
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in MERGES)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        padding_side="right",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_llama(
    layers: int = 4,
    hidden: int = 32,
    heads: int = 4,
    kv_heads: int = 2,
    seed: int = 0,
    **config: Any,
) -> LlamaForCausalLM:
    """A random Llama (grouped-query attention) for `tiny_tokenizer`'s vocabulary, on the CPU."""
    values: dict[str, Any] = {
        "vocab_size": 272,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.2,  # far from uniform outputs, so that mistakes show
        "tie_word_embeddings": True,
        **config,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**values))
    model.train(False)
    return model


def tiny_mistral(layers: int = 4, hidden: int = 32, seed: int = 0) -> MistralForCausalLM:
    """A random Mistral (grouped-query attention, sliding window) for `tiny_tokenizer`."""
    config = MistralConfig(
        vocab_size=272,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        sliding_window=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MistralForCausalLM(config)
    model.train(False)
    return model


def tiny_gpt2(layers: int = 2, hidden: int = 32, heads: int = 4, seed: int = 0) -> GPT2LMHeadModel:
    """A random GPT-2 (learned absolute positions) for `tiny_tokenizer`'s vocabulary."""
    config = GPT2Config(
        vocab_size=272,
        n_embd=hidden,
        n_layer=layers,
        n_head=heads,
        n_positions=512,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    model.train(False)
    return model


def save_tiny(folder: Path, model: PreTrainedModel | None = None) -> Path:
    """Save a model (default: `tiny_llama()`) and the tokenizer as a checkpoint; return `folder`."""
    (model or tiny_llama()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
