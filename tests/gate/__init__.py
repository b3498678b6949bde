"""Does the export gate refuse right files, or pass wrong ones? Many of both, seeded.

PYTHONPATH=tests python -m gate right --count 200
PYTHONPATH=tests python -m gate wrong --count 200
"""
