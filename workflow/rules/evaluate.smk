# lm-eval benchmarks. A result depends on the small finetune.json, which holds the weights' hash.


rule evaluate:
    input:
        cell=f"{ROOT}/{{cell}}/finetune.json",
        questions=f"{ROOT}/questions/questions.json",
        source=sources(
            "evaluate/stage.py",
            "evaluate/lm_tasks.py",
            "evaluate/prefix_layout.py",
            "evaluate/question_rows.py",
            "evaluate/shared_prefix.py",
        ),
    output:
        result=f"{ROOT}/{{cell}}/{{benchmark}}.json",
        samples=f"{ROOT}/{{cell}}/samples/{{benchmark}}.parquet",
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
        settings=benchmark_json,
        model=base_model,
        data_dir=data_dir_flag,
        samples=subpath(output.samples, parent=True),
    shell:
        "python -m owlore.cli.devices {resources.gpu} evaluate "
        "--model {params.model} --cell-file {input.cell} "
        "--benchmark {params.settings:q} {params.data_dir} --threads {threads} "
        "--output {output.result} --samples {params.samples} 2> {log}"
