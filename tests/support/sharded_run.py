"""What test_sharding.py runs under torchrun: `sharded_run.py cell ARGUMENTS…` or `… optimizer`.

`cell` is `owlore finetune ARGUMENTS…` that also writes, for each rank, what its parameters were and
its own bytes of optimizer state. `optimizer` steps the sharded optimizer beside the plain one.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from owlore.optim.lowrank import LowRankAdamW
from owlore.optim.sharded_lowrank import ShardedLowRankAdamW

SHAPES = {"tall": (24, 10), "wide": (10, 23), "square": (9, 9), "short": (2, 16), "norm": (7,)}


def cell() -> int:
    from owlore.cli import main as cli
    from owlore.core import ranks
    from owlore.train import loop as training

    real = training.CellTrainer.results

    def results(self):
        parameters = list(self.language_model.parameters())
        found = {
            "dtensors": all(isinstance(p, DTensor) for p in parameters),
            "rows": sum(p.to_local().numel() for p in parameters),
            "optimizer_bytes": self.meter.bytes["optimizer"],
        }
        folder = Path(self.args.output_dir).parent
        (folder / f"rank{dist.get_rank()}.json").write_text(json.dumps(found))
        assert ranks.count() == dist.get_world_size()
        return real(self)

    training.CellTrainer.results = results
    return cli.main(["finetune", *sys.argv[2:]])


def optimizer() -> int:
    """Three ranks, so that rows do not divide evenly and one rank holds nothing of `short`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for moments in ("reset", "keep", "rotate"):
        follow_the_plain_one(mesh, torch.float32, "nearest", moments, 1e-5)
    follow_the_plain_one(mesh, torch.bfloat16, "master", "reset", 1e-2)
    # Other random bits: a rounding step (2⁻⁷ of a weight) up or down at each of six steps.
    follow_the_plain_one(mesh, torch.bfloat16, "stochastic", "reset", 4e-2)
    a_gradient_that_is_not_finite_stops_every_rank(mesh)
    dist.destroy_process_group()
    return 0


def built(mesh, dtype, rounding, moments):
    generator = torch.Generator().manual_seed(0)
    start = {n: torch.randn(s, generator=generator).to(dtype) for n, s in SHAPES.items()}
    plain = {n: torch.nn.Parameter(w.clone()) for n, w in start.items()}
    parts = {
        n: torch.nn.Parameter(distribute_tensor(w, mesh, [Shard(0)])) for n, w in start.items()
    }

    def make(kind, weights):
        low_rank = {"rank": 2, "update_proj_gap": 2, "moments": moments, "scale": 0.5}
        groups = [
            {"params": [(n, w) for n, w in weights.items() if n in ("short", "norm")]},
            {"params": [(n, w) for n, w in weights.items() if n not in ("short", "norm")]}
            | low_rank,
        ]
        return kind(groups, lr=0.01, weight_decay=0.1, rounding=rounding)

    return plain, parts, lambda: make(LowRankAdamW, plain), lambda: make(ShardedLowRankAdamW, parts)


def follow_the_plain_one(mesh, dtype, rounding, moments, tolerance):
    """Same weights after every step, also when state goes through a checkpoint half-way."""
    plain, parts, make_plain, make_sharded = built(mesh, dtype, rounding, moments)
    one, many = make_plain(), make_sharded()
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        for name, shape in SHAPES.items():
            gradient = torch.randn(shape, generator=generator).to(dtype)
            plain[name].grad = gradient.clone()
            parts[name].grad = distribute_tensor(gradient, mesh, [Shard(0)])
        norms = one.clip_grad_norm(0.5), many.clip_grad_norm(0.5)
        torch.testing.assert_close(*norms, atol=tolerance, rtol=tolerance)
        one.step()
        many.step()
        for name in SHAPES:
            torch.testing.assert_close(
                parts[name].full_tensor(), plain[name], atol=tolerance, rtol=tolerance
            )
            plain[name].grad = parts[name].grad = None
        if step == 2:
            whole = [many.state_dict()]
            dist.broadcast_object_list(whole)  # as a file would be read by all
            assert state_shapes(whole[0]) == state_shapes(one.state_dict())
            many = make_sharded()
            many.load_state_dict(whole[0])
            one.load_state_dict(whole[0])  # what many ranks wrote, one process reads


def state_shapes(state):
    return {
        (number, key): tuple(value.shape) if torch.is_tensor(value) else value
        for number, values in state["state"].items()
        for key, value in values.items()
    }


def a_gradient_that_is_not_finite_stops_every_rank(mesh):
    for name in SHAPES:
        _, parts, _, make_sharded = built(mesh, torch.float32, "nearest", "reset")
        many = make_sharded()
        gradient = torch.ones(SHAPES[name])
        gradient.view(-1)[0] = float("nan")  # a row of the first rank
        parts[name].grad = distribute_tensor(gradient, mesh, [Shard(0)])
        with pytest.raises(FloatingPointError, match=rf"gradient of {name} .* is not finite"):
            many.clip_grad_norm(1.0)


if __name__ == "__main__":
    sys.exit({"cell": cell, "optimizer": optimizer}[sys.argv[1]]())
