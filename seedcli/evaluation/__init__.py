"""Measures, significance and reports."""
