"""Erasing what jobs were asked and what came of them: here, in the archive and at fal."""
