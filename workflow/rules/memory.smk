# Peak memory of every method, simulated without weights: also for models that do not fit here.


rule simulate:
    input:
        model="resources/models/{model}/weights.sha256",
        data=expand(
            f"{ROOT}/data/{{track}}/seed{STUDY.seeds[0]}.sha256", track=STUDY.tracks
        ),
    output:
        result=update(f"{ROOT}/memory/{{model}}.json"),
        table=update(f"{ROOT}/memory/{{model}}.csv"),
    log:
        f"{ROOT}/logs/memory/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/memory/{{model}}.jsonl"
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        job=lambda wildcards: MemoryJob.of(STUDY, wildcards.model).text(),
        code=CODE["simulate"],
        folder=subpath(input.model, parent=True),
        data=data_folder,
    shell:
        "python -m owlore memory --job {params.job:q} --model {params.folder} "
        "--data {params.data} --output {output.result} 2> {log}"
