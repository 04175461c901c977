"""What is run: the typed study, its methods and benchmarks. All it decides is in a Job."""
