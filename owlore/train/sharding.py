"""One training run on several processes: FSDP2, started by torchrun.

    torchrun --standalone --nproc-per-node 2 -m owlore finetune … --output DIR

Every decoder layer is one FSDP2 group, and all else (embedding, final norm, head) another. A step
has the examples of one process and their labelled tokens as its divisor, so that the number of
ranks changes losses by rounding alone (which grows from step to step, as all rounding in training
does); `shares` says how a step is cut, and its one exception. The layer draw is every rank's own,
from the same seed. The optimizers are those in `owlore.optim` whose names begin with Sharded.

Differences from one process: dropout, in models that have it, draws the same mask on all ranks. A
checkpoint has the random states of its own ranks: with another number of ranks some start from the
seed, and dropout's masks are others than in a run that was never stopped.

Cost: every rank reads the whole base model into main memory before it keeps its shards (70B in
bfloat16: 140 GB a rank), and a checkpoint or the result is gathered in the first rank's main memory
(70B: 140 GB, with float32 weights 280 GB, and what is trained now of optimizer state).
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
import torch.distributed as dist
from peft import PeftModel, set_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from transformers import PreTrainedModel

from owlore.core import ranks
from owlore.core.errors import BadInput, TrainingStopped
from owlore.sources import models
from owlore.study.method import Trained
from owlore.train.loss import answer_loss
from owlore.train.precision import rounding_of

PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal for us when our parent dies
PATIENCE = timedelta(minutes=30)  # of a rank for the others: one writes, the rest waits


def check(method: Trained) -> None:
    """Check a method against the number of ranks.

    Raises:
        BadInput: it cannot be trained so.
    """
    count = ranks.count()
    if count == 1:
        if method.mixed_precision != "none":
            raise BadInput(
                f"method.mixed_precision: {method.mixed_precision}: only on several ranks "
                "(torchrun); on one allowed: none"
            )
        return
    if rounding_of(method.precision) == "lean":
        raise BadInput(
            f"method.precision: {method.precision}: not on several ranks ({count}); allowed: "
            "float32, bfloat16, bfloat16-master, bfloat16-stochastic"
        )
    if method.examples_per_step % count:
        raise BadInput(
            f"method.per_device_train_batch_size × gradient_accumulation_steps: "
            f"{method.examples_per_step} examples a step: allowed are multiples of the ranks, "
            f"{count}"
        )


def shares(method: Trained, count: int) -> tuple[int, int]:
    """Return a rank's micro-batch size and micro-batches a step.

    Each micro-batch of one process is cut into equal parts where that works out: a step is then
    the same arithmetic. Else the parts are the largest that work out, and there are fewer
    micro-batches: the first one, which a basis is made of (see `owlore.optim.lowrank`), holds other
    examples than on one process.
    """
    size = method.per_device_train_batch_size
    share = method.examples_per_step // count
    if size % count == 0:
        part = size // count
    else:
        part = max(d for d in range(1, min(size, share) + 1) if share % d == 0)
    return part, share // part


def _start(device: str) -> None:
    """Meet the other ranks; one that torchrun has started alone trains as without torchrun."""
    if ranks.count() == 1:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)  # the Trainer would wrap the model for one rank too
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    signal.signal(signal.SIGTERM, _end)
    if sys.platform == "linux":  # a killed torchrun would leave us training, and a GPU's lock free
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", timeout=PATIENCE)


@contextmanager
def together(device: str) -> Iterator[None]:
    """Meet the other ranks, work, and part when all are done.

    Raises:
        TrainingStopped: another rank has died meanwhile, as far as this one's error tells.
    """
    _start(device)
    try:
        yield
        if ranks.count() > 1:
            dist.barrier()
            dist.destroy_process_group()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except RuntimeError as error:
        raise (_lost_rank(error) or error) from None


def shard(model: PreTrainedModel, method: Trained, device: str) -> None:
    """Shard a model in place; all parameters become DTensors in row shards.

    Every group must have something to train here: FSDP2 settles a group's dtypes once, and with
    mixed precision one that is frozen then can never be woken. Afterwards the model has a method
    `answer_loss`, which runs `owlore.train.loss.answer_loss` as FSDP2's forward.
    """
    mesh = init_device_mesh(device, (ranks.count(),))
    if method.mixed_precision == "bfloat16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    else:
        policy = MixedPrecisionPolicy()
    # From the inside out: a group takes the parameters below it that no other group has taken, so
    # that the model's own is what lies outside the layers. One group's weights are gathered at a
    # time, just before they are used; as one group, the model would be whole on every rank.
    for layer in models.decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    root: Any = model
    root.settle = lambda: None  # a forward pass that does nothing but settle the dtypes
    # FSDP2 gathers weights by hooks around `forward`. Our loss calls the decoder and the head's
    # weight by themselves; registered, it gets the same hooks, and finds the weights gathered.
    root.answer_loss = lambda *arguments: answer_loss(model, *arguments)
    for name in ("settle", "answer_loss"):
        register_fsdp_forward_method(model, name)
    root.settle()
    # FSDP2 leaves the outermost group gathered after a forward pass, as backward comes next. None
    # comes now, and whoever reads a parameter must find its shard.
    cast("FSDPModule", model).reshard()


def whole_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the whole weights (an adapter's alone) in main memory, on the first rank.

    All ranks must ask, as each holds a part.
    """
    gathered: dict[int, Tensor] = {}
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(model, PeftModel) and not tensor.requires_grad:
            continue
        if id(tensor) not in gathered:  # tied weights are one tensor, in the file too
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            gathered[id(tensor)] = whole.detach().cpu() if ranks.is_first() else whole.new_empty(0)
        found[name] = gathered[id(tensor)]
    return found


@torch.no_grad()
def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Read a checkpoint's safetensors files into a sharded model, each rank its own part."""
    mesh = cast("DTensor", next(model.parameters())).device_mesh
    own = {} if isinstance(model, PeftModel) else model.state_dict(keep_vars=True)
    adapter: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (it is not a mapping)
                whole = stored.get_tensor(name).to(mesh.device_type)
                saved = distribute_tensor(whole, mesh, [Shard(0)], src_data_rank=None)
                if isinstance(model, PeftModel):
                    adapter[name] = saved
                else:  # FSDP2 leaves buffers whole
                    own[name].copy_(saved if isinstance(own[name], DTensor) else whole)
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, adapter)  # it knows what peft calls them in the file


def of_first(make: Callable[[], Any]) -> Any:
    """Call `make` on the first rank and return its result, plain values, on all."""
    if ranks.count() == 1:
        return make()
    value = [make() if ranks.is_first() else None]
    dist.broadcast_object_list(value)
    return value[0]


def highest(values: dict[str, int]) -> dict[str, int]:
    """Return the largest value of each key over all ranks."""
    if ranks.count() == 1:
        return values
    found: list[Any] = [None] * ranks.count()
    dist.all_gather_object(found, values)
    return {key: max(each[key] for each in found) for key in values}


def _lost_rank(error: RuntimeError) -> TrainingStopped | None:
    """Return what to say if the error is of what joins the ranks; None if it is another."""
    lost = isinstance(error, dist.DistError) or any(
        name in str(error) for name in ("gloo", "Gloo", "NCCL", "Connection")
    )
    if ranks.count() == 1 or not lost:
        return None
    reason = str(error).strip().splitlines()[0]
    return TrainingStopped(_farewell(f"another rank has stopped, or cannot be reached ({reason})"))


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: torchrun stops the ranks that are left when one has ended, or all.

    A rank may learn of it so before its own connection fails. (One that waits for NCCL learns of it
    in neither way; torchrun kills it after 30 s, and its summary says why.)
    """
    reason = "torchrun has stopped it: another rank has ended, or the job was stopped"
    print(f"owlore finetune: {_farewell(reason)}", file=sys.stderr, flush=True)
    os._exit(1)  # as after a kill: what is half written was never whole


def _farewell(reason: str) -> str:
    return (
        f"rank {os.environ['RANK']}: {reason}; see the other ranks' messages and torchrun's "
        "summary. The last whole checkpoint is kept: the same command resumes from it"
    )
