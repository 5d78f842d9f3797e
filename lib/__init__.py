"""The package that the seven notebooks share: an open Amazon Personalize.

``DESIGN`` in one line: data -> recipes -> training, tuning, evaluation -> resources, campaigns -> service, run.
Imports go down that line and never back.
"""
