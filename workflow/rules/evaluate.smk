# lm-eval benchmarks. A result depends on the cell's receipt: the hash of its weights, no times.


rule evaluate:
    input:
        cell=f"{ROOT}/{{cell}}/weights.sha256",
        questions=rules.questions.output.receipt,
    output:
        result=update(f"{ROOT}/{{cell}}/{{benchmark}}.json"),
        samples=update(f"{ROOT}/{{cell}}/samples/{{benchmark}}.parquet"),
    log:
        f"{ROOT}/logs/{{cell}}/{{benchmark}}.log",
    benchmark:
        f"{ROOT}/benchmarks/{{cell}}/{{benchmark}}.jsonl"
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=2500,
    params:
        job=lambda wildcards: EvaluationJob.of(
            STUDY, CELLS[wildcards.cell], wildcards.benchmark
        ).text(),
        code=CODE["evaluate"],
        model=base_model,
        cell=f"{ROOT}/{{cell}}/finetune.json",
        # Local copies of the questions; without any, tasks other than the embedded read the hub.
        data_dir=lambda wildcards: (
            ["--data-dir", str(folder)]
            if (
                folder := track_of(wildcards)
                .lm_eval_benchmarks[wildcards.benchmark]
                .questions_in(Path(ROOT, "questions"))
            )
            else []
        ),
        samples=subpath(output.samples, parent=True),
    shell:
        "python -m owlore.cli.devices {resources.gpu} evaluate --job {params.job:q} "
        "--model {params.model} --cell-file {params.cell} {params.data_dir:q} "
        "--threads {threads} --output {output.result} --samples {params.samples} 2> {log}"
