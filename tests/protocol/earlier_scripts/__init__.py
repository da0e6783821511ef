"""The worker's scripts as they were at commit c946ce1: what a worker runs that has not been upgraded yet.

Never changed, and never removed while such workers may be in use: see test_two_versions.py.
"""
