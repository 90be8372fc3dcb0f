"""Tuning: configurations tried by rule, measured against the best so far, kept where they gain."""
