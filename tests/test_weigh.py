import ast

from tests.weigh import count_tokens

SHORT = """
def area(width, height):  # in px
    return width * height
"""

LONG = '''
def area(
    width, height
):
    """The area.

    In square px.
    """
    return (
        width
        * height
    )
'''


def test_layout_comments_and_docstrings_weigh_nothing() -> None:
    assert count_tokens(SHORT, ast.parse(SHORT)) == 12
    assert count_tokens(LONG, ast.parse(LONG)) == 12 + 2  # The brackets around the product.
