"""Bugs planted on purpose: a fault that lets all of them pass proves nothing when the real code passes."""
