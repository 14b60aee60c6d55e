"""Adds the pages at the project's root to the site, with their links as they are there: README.md is its home page."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs with the files of docs/."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_PAGES.items():
        text = (root / name).read_text(encoding="utf-8")
        text = f"# License\n\n```text\n{text}```\n" if name == "LICENSE" else site_links(text)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Called by MkDocs with each page: pages of docs/ link to those at the root as ../NAME."""
    if page.file.src_uri.startswith("tutorials/"):
        return markdown
    return site_links(markdown.replace("](../", "]("))


def site_links(text: str) -> str:
    """Links of a page at the root, as they are on the site, where all pages lie in one folder."""
    text = text.replace("](docs/", "](")
    for name, page in ROOT_PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text
