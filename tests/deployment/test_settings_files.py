"""What people copy and read: .env.example and the README say what app.settings says."""

import re
from pathlib import Path

import pytest

from app.sandbox.scripts import scripts_as_markdown
from app.settings import SECRETS, Settings, load_settings

ROOT = Path(__file__).parent.parent.parent
NAMES = {name.upper() for name in Settings.model_fields}
COMPOSE_ONLY = {"POSTGRES_PASSWORD"}
PAGES = ("README.md", "docs/accounting.md", "docs/bi.md", "docs/clients.md", "docs/operating.md")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def test_env_example_names_every_setting_with_a_comment_before_it() -> None:
    text = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE)) == NAMES | COMPOSE_ONLY
    for paragraph in text.strip().split("\n\n"):
        assert paragraph.startswith("# "), paragraph
    assert "FAL_KEY_FILE=" in text
    assert all(name in text.split("\n\n")[0] for name in SECRETS)


def test_env_example_is_valid_and_shows_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text()
    uncommented = tmp_path / ".env"
    uncommented.write_text(re.sub(r"^#([A-Z_]+=)", r"\1", text, flags=re.MULTILINE))
    given = {"FAL_KEY": "id:secret"}
    shown = load_settings(given, env_file=uncommented)
    default = load_settings(given | {"DATABASE_URL": shown.database_url.get_secret_value()}, env_file=None)
    assert shown == default


def test_the_readme_names_every_setting() -> None:
    settings = (ROOT / "README.md").read_text().split("## Settings")[1].split("\n## ")[0]
    assert {name for name in NAMES if f"`{name}`" in settings} == NAMES


def test_the_readme_says_the_same_of_make_test_each_time() -> None:
    said = re.findall(r"^make test +# ([^;\n]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(said) == 2
    assert len(set(said)) == 1


def test_the_readme_shows_the_scripts_of_the_sandbox() -> None:
    shown = (ROOT / "README.md").read_text().split("<!-- scripts:")[1].split("-->\n", 1)[1]
    assert shown.split("\n<!-- /scripts -->")[0] == scripts_as_markdown()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", text)) if "://" not in link]
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        there = ((ROOT / page).parent / path) if path else ROOT / page
        assert there.exists(), link
        assert not heading or heading in headings(there), link


def headings(page: Path) -> set[str]:
    """What can follow a # in a link to this page, as forges make it of a heading."""
    titles = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_promise_names_tests_that_are_there() -> None:
    promises = (ROOT / "README.md").read_text().split("## What it promises\n")[1].split("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"\]\((tests/[a-z_/]+\.py)\)", row)
        assert named, row
        assert [path for path in named if not (ROOT / path).is_file()] == []
