"""Score a checkpoint on lm-eval's tasks, question by question."""
