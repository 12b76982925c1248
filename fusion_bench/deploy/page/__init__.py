"""The page to try a model: static files, which ask the model through model.js.

A server gives server.js as model.js, a folder of static files onnx.js.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
FILES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript", "image.js": "text/javascript"}
"""Files that both need, with their types."""
