"""The stages: the module that computes each, by the name of the rule that runs it."""

MODULES = {
    "base_model": "owlore.sources.base_model",
    "questions": "owlore.questions.stage",
    "training_data": "owlore.data.mixture",
    "score_outliers": "owlore.outliers.stage",
    "base": "owlore.train.base",
    "train": "owlore.train.stage",
    "evaluate": "owlore.evaluate.stage",
    "answer": "owlore.mtbench.answer",
    "judge": "owlore.mtbench.judge",
    "check_overlap": "owlore.contamination.stage",
    "simulate": "owlore.memory.stage",
    "tables": "owlore.compare.stage",
    "report": "owlore.report.page",
}
