"""MT-Bench: answers, judges, ratings."""
