"""Where models, archives and data sets come from, and what is inside a model."""
