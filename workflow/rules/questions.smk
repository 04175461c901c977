# The embedded questions, calibration text and MT-Bench files, made of the study's archives.


rule questions:
    input:
        archives=archive_receipts(QuestionsJob.of(STUDY).archives),
    output:
        result=update(f"{ROOT}/questions/questions.json"),
        receipt=update(f"{ROOT}/questions/questions.sha256"),
    log:
        f"{ROOT}/logs/questions.log",
    benchmark:
        f"{ROOT}/benchmarks/questions.jsonl"
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        job=QuestionsJob.of(STUDY).text(),
        code=CODE["questions"],
        folder=subpath(output.result, parent=True),
    shell:
        "python -m owlore questions --study {params.study} --job {params.job:q} "
        "--archives resources/archives --output {params.folder} 2> {log}"
