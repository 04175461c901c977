# One job a cell. Weights and resumable checkpoints lie undeclared beside the declared files, so
# that a killed job finds its checkpoints again.


rule base:
    input:
        model=lambda wildcards: f"{base_model(wildcards)}/model.json",
    output:
        result=f"{ROOT}/{{cell}}/finetune.json",
        history=f"{ROOT}/{{cell}}/history.jsonl",
    log:
        f"{ROOT}/logs/{{cell}}/finetune.log",
    wildcard_constraints:
        cell=any_of(UNTRAINED),
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        method=method_json,
        cell=cell_json,
        model=base_model,
        folder=subpath(output.result, parent=True),
    shell:
        "python -m owlore finetune --model {params.model} --method {params.method:q} "
        "--cell {params.cell:q} --output {params.folder} 2> {log}"


rule train:
    input:
        unpack(training_inputs),
        source=sources(
            "optim/adamw.py",
            "data/examples.py",
            "train/stage.py",
            "train/loss.py",
            "optim/lowrank.py",
            "train/methods.py",
            "optim/moments.py",
            "optim/projector.py",
            "optim/rounding.py",
            "train/sampling.py",
            "optim/sharded_lowrank.py",
            "train/sharding.py",
            "train/switching.py",
            "train/loop.py",
        ),
    output:
        result=f"{ROOT}/{{cell}}/finetune.json",
        history=f"{ROOT}/{{cell}}/history.jsonl",
    log:
        f"{ROOT}/logs/{{cell}}/finetune.log",
    benchmark:
        f"{ROOT}/benchmarks/{{cell}}/finetune.jsonl"
    wildcard_constraints:
        cell=any_of(TRAINED),
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=3500,
    params:
        method=method_json,
        cell=cell_json,
        model=base_model,
        seed=cell_seed,
        outliers=outliers_flag,
        folder=subpath(output.result, parent=True),
    shell:
        "python -m owlore.cli.devices {resources.gpu} finetune "
        "--model {params.model} --data {input.data} "
        "--method {params.method:q} {params.outliers} --seed {params.seed} "
        "--cell {params.cell:q} --threads {threads} --output {params.folder} 2> {log}"
