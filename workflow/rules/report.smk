# The offline page.


rule report:
    input:
        tables=rules.tables.output.tables,
        figures=rules.tables.output.figures,
    output:
        page=report(
            f"{ROOT}/report/index.html",
            caption="../report/page.rst",
            category="Report",
        ),
        answers=f"{ROOT}/report/answers.html",
    log:
        f"{ROOT}/logs/report.log",
    localrule: True
    conda:
        "../../envs/owlore.yaml"
    params:
        study=STUDY_FILE,
        job=StudyJob.of(STUDY).text(),
        code=CODE["report"],
    shell:
        "python -m owlore report --study {params.study} 2> {log}"
