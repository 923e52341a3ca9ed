import importlib
import sys
import unittest

sys.path.insert(0, "/testbed")
calc = importlib.import_module("calc")


class TestAdd(unittest.TestCase):
    def test_add(self) -> None:
        self.assertEqual(calc.add(1, 2), 3)

    def test_zero(self) -> None:
        self.assertEqual(calc.add(1, 0), 1)
