"""What every room stands on: errors, whole files, progress. It decides no result."""
