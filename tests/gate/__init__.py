"""Does the export gate refuse right files, or pass wrong ones? Many of both, seeded.

python -m tests.gate right --count 200
python -m tests.gate wrong --count 200
"""
