"""A training step of ours against the published recipe and against its floor.

The published recipe: a layer-freezing callback, galore-torch's GaLoreAdamW over all parameters,
full-logits loss, padded batches, optimizer state of sleeping layers never dropped. Both arms run
the same loop here, without a Trainer, on the same tokens.

Run as: `python benchmarks/training.py` after `make reproduce` has made the inputs (13 minutes).
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import MODEL, Table, seconds
from published import PublishedSwitch, full_logits_loss, published_optimizer
from transformers import TrainerControl, TrainerState

from owlore.core.files import read_jsonl
from owlore.data import examples as data
from owlore.optim.projector import leading_basis, project, projects_left
from owlore.sources import models
from owlore.study.method import Layers, Trained, parse_method
from owlore.train.loss import answer_loss
from owlore.train.memory import allocated_peak
from owlore.train.methods import build_optimizer, trainable_model
from owlore.train.precision import dtype_of
from owlore.train.sampling import LayerSampler, layer_weights
from owlore.train.switching import LayerSwitch

GAMMA, INTERVAL, RANK, GAP = 5, 10, 64, 5
LAYERS: dict[str, Any] = {"trainable": "layers", "gamma": GAMMA, "interval_steps": INTERVAL}
LOW_RANK = {"projection": "low-rank", "rank": RANK, "update_proj_gap": GAP}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"trainable": "all"},
    "lora": {"trainable": "lora", "r": 8, "lora_alpha": 16},
    "galore": {"trainable": "all", **LOW_RANK},
    "lisa": {**LAYERS, "sampling": "uniform"},
    "owlore": {**LAYERS, **LOW_RANK, "sampling": "uniform"},  # the draw costs nothing
}
Batch = dict[str, torch.Tensor]


def method(name: str, **changes: Any) -> Trained:
    """Return a method as a study would hold it."""
    return parse_method({"learning_rate": 1e-4, **METHODS[name], **changes}, name)


class Ours:
    """Our training step: the project's optimizer, loss and layer switch."""

    def __init__(self, model_dir: Path, chosen: Trained):
        self.model = trainable_model(models.load(model_dir, dtype_of(chosen.precision)), chosen)
        self.optimizer = build_optimizer(self.model, chosen)
        self._done = TrainerState()
        self._switch = None
        if isinstance(chosen, Layers):
            layers = models.decoder_layers(self.model)
            sampler = LayerSampler(layer_weights("uniform", len(layers)), GAMMA)
            self._switch = LayerSwitch(layers, sampler, chosen.interval_steps, chosen.state)
            self._switch.attach(self.optimizer)

    def step(self, batch: Batch) -> None:
        """One optimizer step."""
        if self._switch is not None:
            self._switch.on_step_begin(None, self._done, TrainerControl())  # type: ignore[arg-type]
        answer_loss(self.model, batch, None).backward()
        self.optimizer.clip_grad_norm(1.0)
        self.optimizer.step()
        self.model.zero_grad()
        self._done.global_step += 1


class Published:
    """A step of the published recipe; rank None is LISA's."""

    def __init__(self, model_dir: Path, rank: int | None, checkpointing: bool, interval: int):
        self.model = models.load(model_dir)
        self.model.train()
        if checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.optimizer = published_optimizer(self.model, rank=rank, update_proj_gap=GAP, lr=1e-4)
        self._switch = PublishedSwitch(models.decoder_layers(self.model), GAMMA, seed=0)
        self._interval, self._steps = interval, 0

    def step(self, batch: Batch) -> None:
        """One optimizer step."""
        if self._steps % self._interval == 0:
            self._switch.switch()
        full_logits_loss(self.model, batch).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.model.zero_grad()
        self._steps += 1


def full_batch(sequences: int, length: int) -> Batch:
    """Return random tokens, every one labelled."""
    ids = torch.randint(10, 40_000, (sequences, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}


def steps(arm: Ours | Published, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that takes one step a batch."""

    def run() -> None:
        for batch in batches:
            arm.step(batch)

    return run


def compare_steps(table: Table, model: Path) -> None:
    """OwLore's interval of 10 steps, switch and refreshes included, and the refreshes' share."""
    for length in (64, 256):
        compare_step(table, model, length)


def compare_step(table: Table, model: Path, length: int) -> None:
    """One row of `compare_steps`, for steps of 4 x `length` tokens."""
    batches = [full_batch(4, length)] * INTERVAL
    ours = Ours(model, method("owlore", gradient_checkpointing=True))
    arms = {
        "ours": steps(ours, batches),
        "theirs": steps(Published(model, RANK, True, INTERVAL), batches),
    }
    spent = seconds(arms, rounds=2)
    ratio = spent["ours"] / spent["theirs"]
    table.add(
        f"OwLore step, 4x{length} tokens all labelled, checkpointing",
        f"{spent['ours'] / 20:.2f} s", f"{spent['theirs'] / 20:.2f} s", f"{ratio:.2f}x", "<= 0.8x",
    )  # fmt: skip
    share = ours.optimizer.take_statistics().projector_seconds / spent["ours"]
    table.add("projector refresh, share of that time", f"{100 * share:.1f} %", "", "", "<= 2 %")


def compare_examples(table: Table, model: Path, examples: list[data.Example]) -> None:
    """Time per example of the embedded training set: padding-free and answers only."""
    groups = [examples[k : k + 10] for k in range(0, 100, 10)]
    flat = [data.flat_batch(group) for group in groups]
    padded = [data.padded_batch(group, 0) for group in groups]
    arms = {
        "ours": steps(Ours(model, method("owlore")), flat),
        "theirs": steps(Published(model, RANK, False, INTERVAL), padded),
    }
    spent = seconds(arms, rounds=2)
    ratio = spent["ours"] / spent["theirs"]
    table.add(
        "OwLore, an example of the embedded training set",
        f"{spent['ours'] / 200:.3f} s", f"{spent['theirs'] / 200:.3f} s",
        f"{ratio:.2f}x", "<= 0.6x",
    )  # fmt: skip


def compare_memory(table: Table, model: Path) -> None:
    """Peak beyond the weights over four steps with a new draw at each."""
    batches = [full_batch(4, 256)] * 4
    chosen = method("owlore", gradient_checkpointing=True, interval_steps=1)
    weights = sum(p.nbytes for p in models.load(model).parameters())
    ours = allocated_peak(lambda: steps(Ours(model, chosen), batches)) - weights
    theirs = allocated_peak(lambda: steps(Published(model, RANK, True, 1), batches)) - weights
    table.add(
        "OwLore, peak memory beyond the weights, 4x256 tokens, checkpointing",
        f"{ours / 2**20:.0f} MiB", f"{theirs / 2**20:.0f} MiB", f"{ours / theirs:.2f}x", "<= 0.5x",
    )  # fmt: skip


def compare_state(table: Table, model: Path) -> None:
    """LISA's optimizer bytes of decoder layers after 20 switches; embedding and head apart."""
    batches = [full_batch(1, 16)] * 20
    ours = Ours(model, method("lisa", interval_steps=1))
    theirs = Published(model, None, False, 1)
    found = {}
    for name, arm in (("ours", ours), ("theirs", theirs)):
        steps(arm, batches)()
        inside = {id(p) for p in models.decoder_layers(arm.model).parameters()}
        found[name] = [
            sum(
                value.nbytes
                for p, state in arm.optimizer.state.items()
                if (id(p) in inside) == layers
                for value in state.values()
                if torch.is_tensor(value)
            )
            / 2**20
            for layers in (True, False)
        ]
    (ours_layers, ours_rest), (their_layers, their_rest) = found["ours"], found["theirs"]
    table.add(
        "LISA, optimizer state of decoder layers after 20 switches",
        f"{ours_layers:.0f} MiB", f"{their_layers:.0f} MiB",
        f"{ours_layers / their_layers:.2f}x", "<= 0.2x",
    )  # fmt: skip
    table.add(
        "the same, embedding, head and norm",
        f"{ours_rest:.0f} MiB",
        f"{their_rest:.0f} MiB",
        "",
        "",
    )


def captured_energy(table: Table, model: Path, examples: list[data.Example]) -> None:
    """Energy of real gradients in the default projector's subspace, against the exact SVD's."""
    network = trainable_model(models.load(model), method("full"))
    former: dict[str, torch.Tensor] = {}
    shares: dict[str, list[float]] = {"cold": [], "warm": []}
    for start, kind in ((0, "cold"), (10, "warm")):
        network.zero_grad()
        answer_loss(network, data.flat_batch(examples[start : start + 10]), None).backward()
        for name, gradient in _matrices(network):
            left = projects_left(gradient.shape, "std")
            energies = []
            for refresh, warm in (("svd", None), ("subspace", former.get(name))):
                basis = leading_basis(gradient, left, RANK, refresh, warm, torch.Generator())
                energies.append(project(gradient, basis, left).square().sum().item())
            former[name] = basis
            shares[kind].append(energies[1] / energies[0])
    for kind, found in shares.items():
        table.add(
            f"energy of the default projector, {kind}, {len(found)} real gradients",
            f"mean {sum(found) / len(found):.4f}", "exact SVD 1", f"least {min(found):.4f}",
            ">= 0.99",
        )  # fmt: skip


def _matrices(network: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in network.named_parameters():
        if ".layers." in name and parameter.dim() == 2 and min(parameter.shape) > RANK:
            assert parameter.grad is not None
            yield name, parameter.grad


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--data", type=Path, default=Path("results/embedded/data/mini/seed0.jsonl"))
    chosen = parser.parse_args()
    tokenizer = models.load_tokenizer(chosen.model)
    examples = data.tokenise(read_jsonl(chosen.data), tokenizer, 256)
    table = Table(
        "training",
        f"SmolLM2-135M in float32; gamma {GAMMA}, a draw every {INTERVAL} steps, rank {RANK}, "
        f"a refresh every {GAP}; against the published recipe unless said otherwise.",
    )
    compare_state(table, chosen.model)
    compare_memory(table, chosen.model)
    captured_energy(table, chosen.model, examples)
    compare_examples(table, chosen.model, examples)
    compare_steps(table, chosen.model)
    table.write()


if __name__ == "__main__":
    main()
