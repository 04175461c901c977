"""What is known of each benchmark, in one table."""

# metric -> column of the samples
CORRECT = {
    "acc": "correct",
    "acc_norm": "correct_norm",
    "exact_match": "correct",
    "exact_match_flexible": "correct_flexible",
}
