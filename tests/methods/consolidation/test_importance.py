"""Importance, against finite differences and by hand."""
