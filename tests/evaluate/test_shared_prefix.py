"""SharedPrefixLM against HFLM itself: same requests, same answers, fewer tokens read."""

import logging
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model
from support.small_models import tiny_gpt2, tiny_llama, tiny_tokenizer

from owlore.core.errors import BadInput
from owlore.evaluate import prefix_layout
from owlore.evaluate.shared_prefix import SharedPrefixLM

logging.getLogger("lm_eval").setLevel(logging.ERROR)

MODELS = {
    "llama": lambda: tiny_llama(layers=2, kv_heads=4),
    "llama-gqa-eager": lambda: tiny_llama(layers=2, kv_heads=1, attn_implementation="eager"),
    "gpt2": tiny_gpt2,
}
QUESTION = "Question: the winter in a\nAnswer:"


@cache
def pair(name: str, max_length: int = 40) -> tuple[HFLM, SharedPrefixLM]:
    model, arguments = MODELS[name](), {"batch_size": 3, "max_length": max_length}
    tokenizer = tiny_tokenizer()
    return (
        HFLM(pretrained=model, tokenizer=tokenizer, **arguments),
        SharedPrefixLM(pretrained=model, tokenizer=tokenizer, **arguments),
    )


def instances(requests: list[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, request, i) for i, request in enumerate(requests)]


def assert_same(mine: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in mine] == [greedy for _, greedy in theirs]
    assert [ll for ll, _ in mine] == pytest.approx([ll for ll, _ in theirs], abs=1e-3)


def scorable(lm: HFLM, context: str, continuation: str) -> bool:
    """Whether HFLM takes the request: a continuation with tokens of its own, not too many."""
    if not continuation or (context and not context.strip()):
        return False
    encoded = lm._encode_pair(context, continuation)[1] if context else lm.tok_encode(continuation)
    return 0 < len(encoded) <= lm.max_length


# Letters that the toy tokenizer merges, spaces at both ends of a text, and text it has not seen.
TEXT = st.text("thewrina \né", max_size=14)
CONTEXT = st.one_of(st.sampled_from(["", QUESTION, QUESTION + " ", "th"]), TEXT)
CONTINUATION = st.one_of(st.sampled_from([" the", " winter in", "e", "er" * 15]), TEXT)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    requests=st.lists(st.tuples(CONTEXT, CONTINUATION), min_size=1, max_size=14),
)
def test_text_requests_score_as_with_hflm(name: str, requests: list[tuple[str, str]]) -> None:
    plain, shared = pair(name)
    assert shared.why_plain is None
    requests = [request for request in requests if scorable(shared, *request)]
    assume(requests)
    assert_same(
        shared.loglikelihood(instances(requests), disable_tqdm=False),
        plain.loglikelihood(instances(requests), disable_tqdm=True),
    )


TOKENS = st.lists(st.integers(3, 265), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    contexts=st.lists(TOKENS, min_size=1, max_size=4),
    choices=st.lists(st.tuples(st.integers(0, 3), TOKENS), min_size=1, max_size=12),
)
def test_token_requests_score_as_with_hflm(
    name: str, contexts: list[list[int]], choices: list[tuple[int, list[int]]]
) -> None:
    plain, shared = pair(name)
    requests = [(None, contexts[place % len(contexts)], tokens) for place, tokens in choices]
    assert_same(
        shared._loglikelihood_tokens(requests, disable_tqdm=False),
        plain._loglikelihood_tokens(requests, disable_tqdm=True),
    )


@pytest.mark.arithmetic
@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(MODELS)),
    prefixes=st.lists(TOKENS, min_size=1, max_size=3),
    ends=st.lists(st.tuples(st.integers(0, 2), TOKENS, TOKENS), min_size=1, max_size=12),
)
def test_requests_that_share_a_prefix_score_as_with_hflm(
    name: str, prefixes: list[list[int]], ends: list[tuple[int, list[int], list[int]]]
) -> None:
    """Any mix of families, the prefix being cached from 2 tokens on; some contexts are cut."""
    plain, shared = pair(name)
    requests = [
        (None, prefixes[which % len(prefixes)] + context[:8], tokens[:6])
        for which, context, tokens in ends
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_layout, "PREFIX_TOKENS", 2)
        found = shared._loglikelihood_tokens(requests, disable_tqdm=True)
    assert_same(found, plain._loglikelihood_tokens(requests, disable_tqdm=True))


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", MODELS)
def test_greedy_continuation_is_recognised(name: str) -> None:
    plain, shared = pair(name)
    context = shared.tok_encode(QUESTION)
    greedy = shared.model.generate(
        torch.tensor([context]), max_new_tokens=4, min_new_tokens=4, do_sample=False
    )[0, len(context) :].tolist()
    requests = [(None, context, tokens) for tokens in (greedy, [*greedy[:3], 9], greedy[:1])]
    answers = shared._loglikelihood_tokens(requests)
    assert [is_greedy for _, is_greedy in answers] == [True, False, True]
    assert_same(answers, plain._loglikelihood_tokens(requests, disable_tqdm=True))


def test_context_is_read_once() -> None:
    _, shared = pair("llama")
    read = []
    hook = shared.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        shared.loglikelihood(instances([(QUESTION, " " + word) for word in "abcd"]))
    finally:
        hook.remove()
    continuations = [shared._encode_pair(QUESTION, " " + word)[1] for word in "abcd"]
    expected = len(shared.tok_encode(QUESTION)) + sum(len(tokens) - 1 for tokens in continuations)
    assert read == [expected]


def test_truncated_questions_are_counted() -> None:
    long = QUESTION * 3
    requests = [(long, " the"), (long, " winter in the"), (QUESTION, " the"), ("", " the")]
    plain, shared = pair("llama", max_length=48)
    shared.truncated.clear()
    answers = shared.loglikelihood(instances(requests))
    assert shared.truncated == set(requests[:2])
    assert_same(answers, plain.loglikelihood(instances(requests), disable_tqdm=True))


@pytest.mark.parametrize(
    ("context", "continuation", "message"),
    [
        ([5], [9] * 41, "max_length: 40: the choice 'k' has 41 tokens"),
        ([5], [], "the choice 'k' has 0 tokens"),
        ([], [9], "the context 'c' has no tokens"),
    ],
)
def test_requests_that_cannot_be_scored_are_errors(
    context: list[int], continuation: list[int], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        pair("llama")[1]._loglikelihood_tokens([(("c", "k"), context, continuation)])


SHAPE: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.arithmetic
@pytest.mark.parametrize(
    ("kind", "extra", "reason"),
    [
        ("Mistral", {"sliding_window": 8}, "limited to the last 8 tokens"),
        ("Mistral", {"sliding_window": 40}, None),  # never cuts a sequence of max_length 40
        ("Gemma2", {"final_logit_softcapping": 4.0}, None),  # the model's own head applies it
        ("Granite", {"logits_scaling": 3.0}, None),
        ("Bloom", {"n_head": 4, "n_layer": 2}, "does not take position_ids"),
        # State space layers carry one choice over into the next: only the trial run shows it.
        (
            "Jamba",
            {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
            | {"use_mamba_kernels": False},
            "change a log-likelihood",
        ),
    ],
)
def test_models_that_cannot_share_go_the_plain_way(
    kind: str, extra: dict[str, Any], reason: str | None
) -> None:
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **extra})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    arguments = {"tokenizer": tiny_tokenizer(), "batch_size": 4, "max_length": 40}
    shared = SharedPrefixLM(pretrained=model, **arguments)
    assert (shared.why_plain is None) == (reason is None)
    assert reason is None or reason in str(shared.why_plain)
    requests = instances([(QUESTION, " the"), (QUESTION, " a winter"), ("", " the"), ("a", " in")])
    plain = HFLM(pretrained=model, **arguments)
    assert_same(shared.loglikelihood(requests), plain.loglikelihood(requests, disable_tqdm=True))


def test_peft_model_scores_with_its_adapter() -> None:
    requests = instances([(QUESTION, " the"), (QUESTION, " a winter"), ("", " the")])
    arguments = {"tokenizer": tiny_tokenizer(), "batch_size": 4, "max_length": 40}
    base = SharedPrefixLM(pretrained=tiny_llama(), **arguments).loglikelihood(requests)
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(tiny_llama(), config).eval()
    shared = SharedPrefixLM(pretrained=model, **arguments)
    assert shared.why_plain is None
    answers = shared.loglikelihood(requests)
    plain = HFLM(pretrained=model, **arguments)
    assert_same(answers, plain.loglikelihood(requests, disable_tqdm=True))
    assert abs(answers[0][0] - base[0][0]) > 0.01
