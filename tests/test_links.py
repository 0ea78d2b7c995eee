"""The links of the pages for users and developers."""
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')])


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_of_pages_resolve(page):
    links = [link for link in re.findall(r'\]\(([^)\s]+)\)', page.read_text()) if '://' not in link]
    broken = []
    for link in links:
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_readme_links_every_page():
    linked = set(re.findall(r'\]\((docs/[\w-]+\.md)', (ROOT / 'README.md').read_text()))
    assert linked == {f'docs/{page.name}' for page in PAGES if page.parent.name == 'docs'}
