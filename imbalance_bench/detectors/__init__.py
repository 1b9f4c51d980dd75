"""Detectors: mmdet configurations, the box head that hosts a Classifier, and passes over images."""
