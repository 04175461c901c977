# How many outliers each decoder layer has: the scores that OwLore draws layers by.


rule score_outliers:
    input:
        model="resources/models/{model}/weights.sha256",
        text=[] if TEXT == "embedded" else TEXT,
        questions=rules.questions.output.receipt,
    output:
        result=update(f"{ROOT}/outliers/{{model}}.json"),
        receipt=update(f"{ROOT}/outliers/{{model}}.sha256"),
    log:
        f"{ROOT}/logs/outliers/{{model}}.log",
    benchmark:
        f"{ROOT}/benchmarks/outliers/{{model}}.jsonl"
    conda:
        "../../envs/owlore.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=2500,
    params:
        job=lambda wildcards: OutliersJob.of(STUDY, wildcards.model).text(),
        code=CODE["score_outliers"],
        model=subpath(input.model, parent=True),
        text=f"{ROOT}/questions/calibration.jsonl" if TEXT == "embedded" else TEXT,
    shell:
        "python -m owlore.cli.devices {resources.gpu} outliers --job {params.job:q} "
        "--model {params.model} --text {params.text:q} --threads {threads} "
        "--output {output.result} 2> {log}"
