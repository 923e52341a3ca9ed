"""The labelled corpus, a file a subject: images made for one trait each, and the verdict and check they must get."""

from tests.corpus import environments, general, permissions, programs, pythons, repositories, shells
from tests.corpus.case import BASE, Case

CASES: list[Case] = [
    *general.HEALTHY,
    *general.BROKEN,
    *programs.CASES,
    *pythons.CASES,
    *permissions.CASES,
    *repositories.CASES,
    *environments.CASES,
    *shells.CASES,
]

__all__ = ["BASE", "CASES", "Case"]
