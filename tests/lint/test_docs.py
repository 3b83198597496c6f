"""Pages made from tables are fresh, and links lead somewhere."""

import re
import subprocess

import pytest


@pytest.mark.parametrize("page", ["OPTIONS.md", "COUNTERS.md"])
def test_generated_pages_are_fresh(root, tmp_path, page):
    subprocess.run([root / "tests/lint/generate_docs", str(tmp_path)], check=True)
    assert (root / "docs" / page).read_text() == (tmp_path / page).read_text(), \
        "stale: run ./dev docs"


def test_links_between_pages_lead_to_files(root):
    wrong = []
    for page in [*root.glob("*.md"), *root.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                wrong.append(f"{page.relative_to(root)} -> {target}")
    assert not wrong, "\n".join(wrong)


def test_architecture_names_files_that_exist(root):
    text = (root / "docs/ARCHITECTURE.md").read_text()
    names = re.findall(r"`((?:proto|runtime|broker|gateway|extractor|cacher|monitor|client|"
                       r"tests|bench)/[\w./]+\.(?:c|h|tbl|py))`", text)
    missing = [name for name in names if not (root / name).exists()]
    assert names and not missing, missing


def test_alerts_name_metrics_that_exist_and_are_explained(root):
    rules = (root / "deploy/prometheus/siftmesh.rules.yml").read_text()
    counters = (root / "docs/COUNTERS.md").read_text()
    metrics = {re.sub(r"_bucket$", "", name)
               for name in re.findall(r"\bsiftmesh_(?:\w+_)?\w+", rules)}
    unknown = [name for name in metrics if not re.search(rf"`{name}[`{{]", counters)]
    assert len(metrics) > 10 and not unknown, unknown
    alerts = set(re.findall(r"alert: (\w+)", rules))
    explained = set(re.findall(r"`(Siftmesh\w+)`", (root / "docs/OPERATIONS.md").read_text()))
    assert alerts == explained, alerts ^ explained


@pytest.mark.parametrize("page", ["RELIABILITY", "SECURITY"])
def test_promises_name_tests_that_exist(root, page):
    text = (root / f"docs/{page}.md").read_text()
    names = re.findall(r"`([\w/.]+)::(\w+)`", text)
    missing = [f"{path}::{name}" for path, name in names
               if not (root / path).exists()
               or not re.search(rf"\b(?:def|void) {name}\(", (root / path).read_text())]
    assert len(names) > 10 and not missing, missing
