"""Make the API reference from the docstrings: python scripts/docs.py FOLDER."""

import os
import re
import sys
from pathlib import Path

import pdoc

MODULES = ("carousel", "carousel.engine", "carousel.engine.fused", "carousel.lab", "carousel.lab.tasks")
MATH = re.compile(r":math:`([^`]+)`|^( *)\.\. math::\n((?:\2 +.*\n|\n)+)", re.MULTILINE)
STYLE = """<style>
.pdoc img { max-width: 100%; height: auto }
.pdoc table { display: block; overflow-x: auto } /* on a phone the table is moved, not the page */
.pdoc p, .pdoc li, .pdoc dt { overflow-wrap: anywhere }
</style></head>"""
convert = pdoc.docstrings.convert


def tex(found: re.Match) -> str:
    """Of reST's math, which Markdown would take for emphasis, links and lists."""
    inline, _, block = found.groups()
    code = re.sub(r"([\\`*_{}\[\]()#+\-.!>])", r"\\\1", inline or re.sub(r"\s+", " ", block).strip())
    return rf"\\({code}\\)" if inline else "\n$$" + r"\\begin\{aligned\}" + code + r"\\end\{aligned\}" + "$$\n\n"


def linked(page: str) -> str:
    """Without links to files of the repository, and to members that pdoc knows of and does not show, such as those that
    are inherited from torch."""

    def there(mark: str, target: str) -> bool:
        return f'id="{target}"' in page if mark else target.endswith(".html")

    return re.sub(r'<a href="(#?)([\w./]+)(?:#[\w-]+)?">(.*?)</a>', lambda m: m[0] if there(m[1], m[2]) else m[3], page)


if __name__ == "__main__":
    os.environ["PDOC_ALLOW_EXEC"] = "1"  # matplotlib asks for the fonts when it is first imported
    pdoc.docstrings.convert = lambda text, form, file: convert(MATH.sub(tex, text + "\n"), form, file)
    pdoc.render.configure(docformat="google", math=True, show_source=False)
    folder = Path(sys.argv[1])
    pdoc.pdoc(*MODULES, output_directory=folder)
    for path in folder.rglob("*.html"):
        path.write_text(linked(path.read_text("utf8")).replace("</head>", STYLE), "utf8")
