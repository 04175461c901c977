"""The metrics that a task can be scored by, and where the samples have each question's outcome."""

# metric → column of the samples; a task's metrics are listed in this order
CORRECT = {
    "acc": "correct",
    "acc_norm": "correct_norm",
    "exact_match": "correct",
    "exact_match_flexible": "correct_flexible",
}
