"""The suite itself: every test asserts something."""
import ast
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.rglob('test_*.py'))


def asserts(test: ast.FunctionDef) -> bool:
    """Whether a test has an ``assert``, expects an error or a warning, or calls a function named for what it asserts."""
    called = [ast.unparse(node.func) for node in ast.walk(test) if isinstance(node, ast.Call)]
    return any(isinstance(node, ast.Assert) for node in ast.walk(test)) or any(
        'assert' in name or name.endswith(('.raises', '.warns', '.fails')) for name in called)


@pytest.mark.parametrize('path', TESTS, ids=lambda path: path.stem)
def test_no_test_is_without_assertion(path):
    tests = [node for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.FunctionDef) and node.name.startswith('test')]
    assert [test.name for test in tests if not asserts(test)] == []
