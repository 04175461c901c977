# How many outliers each decoder layer has: the scores that OwLore draws layers by.


def calibration_text(wildcards):
    text = STUDY.calibration.text
    return f"{ROOT}/questions/calibration.jsonl" if text == "embedded" else text


rule score_outliers:
    input:
        model="resources/models/{model}/weights.sha256",
        text=[] if STUDY.calibration.text == "embedded" else STUDY.calibration.text,
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
        text=calibration_text,
    shell:
        "python -m owlore.cli.devices {resources.gpu} outliers --job {params.job:q} "
        "--model {params.model} --text {params.text:q} --threads {threads} "
        "--output {output.result} 2> {log}"
