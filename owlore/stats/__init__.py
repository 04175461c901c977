"""Paired differences, strata, bootstrap. Imports only numpy and scipy."""
