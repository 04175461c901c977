# How many outliers each decoder layer has: the scores that OwLore draws layers by.


rule score_layers:
    input:
        model="resources/models/{model}/model.json",
        questions=f"{ROOT}/questions/questions.json",
        source=sources("outliers/calibration.py", "outliers/scores.py", "outliers/stage.py", "outliers/spectra.py"),
    output:
        f"{ROOT}/outliers/{{model}}.json",
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
        model=subpath(input.model, parent=True),
        text=calibration_text,
        samples=STUDY.calibration.samples,
        seqlen=STUDY.calibration.seqlen,
        seed=STUDY.calibration.seed,
        threshold=STUDY.calibration.threshold,
        thresholds=STUDY.calibration.thresholds,
    shell:
        "python -m owlore.cli.devices {resources.gpu} outliers "
        "--model {params.model} --name {wildcards.model} "
        "--text {params.text} --samples {params.samples} --seqlen {params.seqlen} "
        "--seed {params.seed} --threshold {params.threshold} --thresholds {params.thresholds} "
        "--threads {threads} --output {output} 2> {log}"
