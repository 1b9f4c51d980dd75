"""Diagnosis of a detector from its result files alone, whatever framework it runs in; nothing here imports torch."""
