"""Predictions of a tuned or only converted model: from Python, and as files."""
