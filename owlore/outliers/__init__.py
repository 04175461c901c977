"""Outlier scores of decoder layers."""
