"""Figures on data a model has not seen."""
