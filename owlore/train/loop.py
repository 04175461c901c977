"""The training loop: transformers' Trainer with our order, optimizer, loss and layer switch.

What it adds to the Trainer: examples come in exactly the order that the data stage wrote,
unlabelled tokens never reach the head, every step is measured, and a checkpoint counts only when it
is whole. On several ranks (`sharding.py`) all of it is done by every rank; the first writes.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from owlore.core import ranks
from owlore.core.errors import TrainingStopped
from owlore.core.files import read_json, write_json
from owlore.core.progress import line
from owlore.data import examples as data
from owlore.optim.protocol import OwloreOptimizer
from owlore.records.base import Proof
from owlore.records.finetune import MemoryBytes, TrainingNumbers
from owlore.records.proof import ASIDE, CODE_CHANGED, misfit
from owlore.sources import models
from owlore.study.method import Layers, Trained
from owlore.train import sharding
from owlore.train.loss import answer_loss
from owlore.train.meter import KINDS, Measuring, Meter
from owlore.train.methods import build_optimizer
from owlore.train.sampling import LayerSampler, layer_weights
from owlore.train.switching import LayerSwitch

STATE_FILE = "owlore.json"  # written last into a checkpoint: a checkpoint without it is torn


class CellTrainer(Trainer):
    """The Trainer with our order, optimizer, loss, measuring and whole-or-torn checkpoints."""

    language_model: PreTrainedModel
    order: data.TrainingOrder
    method: Trained
    seed: int
    switch: LayerSwitch | None
    meter: Meter
    measuring: Measuring
    proof: Proof

    @classmethod
    def assemble(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: list[data.Example],
        method: Trained,
        seed: int,
        scores: list[float] | None,
        checkpoints: Path,
        device: str,
    ) -> "CellTrainer":
        """Put the parts together; the layer switch comes only with trainable: layers."""
        pad = int(tokenizer.pad_token_id)
        if ranks.count() > 1:
            sharding.shard(model, method, device)
        order = data.TrainingOrder(examples, method.max_steps * method.examples_per_step, seed)
        trainer = cls(
            model=model,
            args=_arguments(method, seed, checkpoints, device),
            train_dataset=order,
            data_collator=(
                data.flat_batch
                if method.padding_free
                else lambda batch: data.padded_batch(batch, pad)
            ),
        )
        if ranks.count() > 1:
            # Leave placement, sharding and sums of gradients to the model. (Told so by the model
            # itself, the Trainer would refuse to write checkpoints; ours gather what they need.)
            trainer.is_distributed_loading_by_transformers = True
        trainer.model_accepts_loss_kwargs = True  # our loss divides by num_items_in_batch itself
        trainer.language_model, trainer.order = model, order
        trainer.method, trainer.seed = method, seed
        trainer.meter, trainer.switch = Meter(), None
        if isinstance(method, Layers):
            layers = models.decoder_layers(model)
            weights = layer_weights(method.sampling, len(layers), scores)
            sampler = LayerSampler(weights, method.gamma, method.law, seed)
            trainer.switch = LayerSwitch(layers, sampler, method.interval_steps, method.state)
            trainer.add_callback(trainer.switch)
        trainer.remove_callback(PrinterCallback)
        trainer.measuring = Measuring(
            trainer.meter,
            model,
            order,
            method,
            trainer.switch,
            trainer.owlore_optimizer,
            trainer.args.device.type,
        )
        trainer.add_callback(trainer.measuring)
        trainer.add_callback(_WholeCheckpoints(trainer))
        return trainer

    def prepare_resume(self, asked: Proof) -> Path | None:
        """Find the newest whole checkpoint of this very cell, by this very code.

        Left-overs of other settings or inputs go. One of other code may have cost days: it is set
        aside, and `owlore accept` brings it back.

        Args:
            asked: what the finished training will prove.
        """
        self.proof = asked
        found = sharding.of_first(self._newest_whole_checkpoint)
        if found is None:
            return None
        newest = Path(found)
        state = read_json(newest / STATE_FILE)
        self.proof = Proof.model_validate(state["proof"])
        self.meter.load_state_dict(state["meter"])
        if self.switch is not None:
            self.switch.load_state_dict(state["switch"])
        line(f"finetune: resuming from step {newest.name.split('-')[1]}")
        return newest

    def _newest_whole_checkpoint(self) -> str | None:
        folder = Path(self.args.output_dir or "")
        whole = []
        for checkpoint in folder.glob("checkpoint-*"):
            marker = checkpoint / STATE_FILE
            why = _not_ours(marker, self.proof)
            if not why:
                whole.append(checkpoint)
            elif why.startswith(CODE_CHANGED):
                aside = folder.with_name(ASIDE) / checkpoint.name
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                checkpoint.rename(aside)
                line(f"finetune: {aside}: {why}; `owlore accept` resumes from it")
            else:
                shutil.rmtree(checkpoint)
        if not whole:
            return None
        return str(max(whole, key=lambda path: int(path.name.split("-")[1])))

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as the Trainer does.

        Raises:
            TrainingStopped: the loss or a gradient is not finite. The optimizer finds a gradient
                in the backward pass, where a basis is due, or when it clips.
        """
        try:
            return super().train(*arguments, **keywords)
        except FloatingPointError as error:
            raise TrainingStopped(
                f"{error} at step {self.state.global_step + 1}: try a smaller learning_rate"
            ) from None
        finally:
            self.measuring.abandon()

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.order)

    def create_optimizer(self, model: nn.Module | None = None) -> OwloreOptimizer:
        """Build the optimizer over every parameter that may ever train."""
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.language_model, self.method, self.seed)
            if self.switch is not None:
                self.switch.attach(self.optimizer)
        return self.owlore_optimizer()

    def owlore_optimizer(self) -> OwloreOptimizer:
        """Return our optimizer; accelerate wraps it once training has begun."""
        return cast("OwloreOptimizer", getattr(self.optimizer, "optimizer", self.optimizer))

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip by the optimizer: the Trainer sees no gradient that is pending elsewhere."""
        return self.owlore_optimizer().clip_grad_norm(self.args.max_grad_norm)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the mean cross-entropy over the labelled tokens of the whole step."""
        with self.meter.activations(self.language_model):
            loss: Tensor
            if ranks.count() > 1:
                # Averaged over the ranks, by FSDP2 and in the log, it is the step's own.
                loss = model.answer_loss(inputs, num_items_in_batch) * ranks.count()
            else:
                loss = answer_loss(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            digest = hashlib.sha256(inputs["input_ids"].cpu().numpy().tobytes()).hexdigest()
            raise TrainingStopped(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, "
                f"batch sha256 {digest[:16]}: try a smaller learning_rate"
            )
        return loss

    @contextlib.contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Sum over ranks after every micro-batch instead: no rank keeps whole gradients."""
        yield

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model; a sharded one is gathered on the first rank."""
        if ranks.count() == 1:
            super().save_model(output_dir, _internal_call)
            return
        weights = sharding.whole_weights(self.language_model)
        if ranks.is_first():
            self._save(output_dir, weights)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if ranks.count() == 1:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            sharding.load_weights(self.language_model, Path(resume_from_checkpoint))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        assert self.lr_scheduler is not None
        state = self.owlore_optimizer().state_dict()  # of a sharded one all ranks ask
        if ranks.is_first():
            torch.save(state, Path(output_dir) / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert self.lr_scheduler is not None
        parts: dict[str, Any] = {
            "optimizer.pt": self.owlore_optimizer(),
            "scheduler.pt": self.lr_scheduler,
        }
        for name, part in parts.items():
            # Mapped: a rank reads its part of a tensor, not the whole.
            stored = Path(checkpoint, name)
            state = torch.load(stored, map_location="cpu", weights_only=True, mmap=True)
            part.load_state_dict(state)

    def results(self) -> TrainingNumbers:
        """Return the numbers of finetune.json; bytes are the largest of any rank."""
        losses = [row["loss"] for row in self.state.log_history if "loss" in row]
        meter = self.meter
        meter.bytes = sharding.highest(meter.bytes)
        return {
            "ranks": ranks.count(),
            "seconds": round(meter.seconds, 3),
            "tokens": meter.tokens,
            "tokens_per_second": round(meter.tokens / meter.seconds, 2) if meter.seconds else None,
            "examples": len(self.order),
            "steps": self.state.global_step,
            "first_loss": losses[0],
            "final_loss": losses[-1],
            "trainable_parameters": meter.trained_parameters,
            "total_parameters": sum(p.numel() for p in self.language_model.parameters()),
            "memory_bytes": MemoryBytes(**{k: meter.bytes[k] for k in KINDS}),
            "peak_bytes": meter.bytes["peak"],
            "optimizer_bytes": meter.bytes["optimizer"],
            "decoder_optimizer_bytes": meter.bytes["decoder"],
            "layer_activations": self.switch.activations if self.switch else None,
            "switches": self.switch.switches if self.switch else 0,
            "projector_refreshes": int(meter.projector["refreshes"]),
            "projector_seconds": round(meter.projector["seconds"], 3),
        }

    def history(self) -> list[dict[str, Any]]:
        """Return one row a logging step, for history.jsonl."""
        return [row for row in self.state.log_history if "loss" in row]


class _WholeCheckpoints(TrainerCallback):
    """Marks a checkpoint as whole, once the Trainer has written all of it."""

    def __init__(self, trainer: CellTrainer):
        self._trainer = trainer

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer = self._trainer
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        bytes_now = sharding.highest(trainer.meter.bytes)  # all ranks have written when it is known
        if ranks.is_first():
            write_json(
                folder / STATE_FILE,
                {
                    "proof": trainer.proof.model_dump(mode="json"),
                    "meter": {**vars(trainer.meter), "bytes": bytes_now},
                    "switch": trainer.switch.state_dict() if trainer.switch else None,
                },
            )


def _not_ours(marker: Path, asked: Proof) -> str:
    """Say why a checkpoint is not one of this training; empty if it is."""
    if not marker.exists():
        return "torn: it was not written to its end"
    before = read_json(marker).get("proof")
    return misfit(Proof.model_validate(before) if before else None, asked)


def _arguments(method: Trained, seed: int, checkpoints: Path, device: str) -> TrainingArguments:
    size, accumulation = sharding.shares(method, ranks.count())
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=method.max_steps,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        learning_rate=method.learning_rate,
        lr_scheduler_type=method.lr_scheduler_type,
        warmup_steps=method.warmup_steps,
        max_grad_norm=method.max_grad_norm,
        bf16=False,  # precision: bfloat16 means bfloat16 weights; no autocast
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide a diverging loss
        save_steps=method.checkpoint_steps,
        save_total_limit=2,  # the older one goes only when the newer is written
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to=[],
        use_cpu=device == "cpu",
        disable_tqdm=True,
    )
    # On one of the GPUs that are there; the Trainer would wrap the model in DataParallel.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
