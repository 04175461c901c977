# Peak memory of every method, simulated without weights: also for models that do not fit here.


rule simulate:
    input:
        model="resources/models/{model}/model.json",
        data=[
            f"{ROOT}/data/{track}/seed{STUDY.seeds[0]}.jsonl" for track in STUDY.tracks
        ],
        source=sources(
            "optim/adamw.py",
            "train/loss.py",
            "optim/lowrank.py",
            "train/methods.py",
            "optim/moments.py",
            "optim/projector.py",
            "optim/rounding.py",
            "memory/simulate.py",
        ),
    output:
        result=f"{ROOT}/memory/{{model}}.json",
        table=f"{ROOT}/memory/{{model}}.csv",
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
        study=STUDY_FILE,
        methods=methods_json,
        folder=subpath(input.model, parent=True),
        data=data_folder,
    shell:
        "python -m owlore memory --study {params.study} --name {wildcards.model} "
        "--model {params.folder} --data {params.data} --output {output.result} 2> {log}"
