# One job a cell. Weights and resumable checkpoints lie undeclared beside the declared files, so
# that a killed job finds its checkpoints again.


rule base:
    input:
        model=lambda wildcards: f"{base_model(wildcards)}/weights.sha256",
    output:
        result=update(f"{ROOT}/{{cell}}/finetune.json"),
        history=update(f"{ROOT}/{{cell}}/history.jsonl"),
        weights=update(f"{ROOT}/{{cell}}/weights.sha256"),
    log:
        f"{ROOT}/logs/{{cell}}/finetune.log",
    wildcard_constraints:
        cell=any_of(path for path in CELLS if path not in TRAINED),
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        job=lambda wildcards: FinetuneJob.of(STUDY, CELLS[wildcards.cell]).text(),
        code=CODE["base"],
        model=base_model,
        folder=subpath(output.result, parent=True),
    shell:
        "python -m owlore finetune --job {params.job:q} --model {params.model} "
        "--output {params.folder} 2> {log}"


rule train:
    input:
        unpack(training_inputs),
    output:
        result=update(f"{ROOT}/{{cell}}/finetune.json"),
        history=update(f"{ROOT}/{{cell}}/history.jsonl"),
        weights=update(f"{ROOT}/{{cell}}/weights.sha256"),
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
        job=lambda wildcards: FinetuneJob.of(STUDY, CELLS[wildcards.cell]).text(),
        code=CODE["train"],
        data=lambda wildcards, input: str(Path(input.data).with_suffix(".jsonl")),
        outliers=lambda wildcards, input: (
            ["--outliers", str(Path(input.outliers).with_suffix(".json"))]
            if "outliers" in input.keys()
            else []
        ),
        model=base_model,
        study=STUDY_FILE,
        folder=subpath(output.result, parent=True),
    shell:
        "python -m owlore.cli.devices {resources.gpu} finetune --job {params.job:q} "
        "--study {params.study} --model {params.model} --data {params.data} "
        "{params.outliers:q} --threads {threads} --output {params.folder} 2> {log}"
