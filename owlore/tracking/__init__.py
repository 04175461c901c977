"""MLflow as a projection of the result files."""
