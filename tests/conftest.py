"""What all tests share."""

from hypothesis import settings

# A property is not wrong because the machine was busy: how long an example takes is no verdict.
settings.register_profile("tests", deadline=None, max_examples=50)
settings.load_profile("tests")
