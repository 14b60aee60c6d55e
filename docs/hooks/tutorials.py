"""Adds docs/tutorials/*.py to the site as pages: their text, their code, and what it printed and drew.

`make site` runs them as notebooks in build/tutorials; a tutorial that was not run is shown without outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

RUN = Path("build") / "tutorials"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs with the files of docs/."""
    root = Path(config.config_file_path).parent
    for script in sorted(Path(config.docs_dir, "tutorials").glob("*.py")):
        executed = root / RUN / f"{script.stem}.ipynb"
        notebook = nbformat.read(executed, as_version=4) if executed.exists() else jupytext.read(script)
        text, pictures = page_of(notebook, f"{script.stem}_files")
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def page_of(notebook: Any, folder: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by path in ``folder``; without stderr, which holds progress."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = MarkdownExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    text, resources = exporter.from_notebook_node(notebook, {"output_files_dir": folder, "unique_key": "output"})
    return text.replace("```bash\n%%bash\n", "```sh\n"), resources["outputs"]
