"""Diagnosis of a detector, from its checkpoint or from its result files: what is wrong, and what helps."""
