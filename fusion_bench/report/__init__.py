"""What a study found, from the store alone: the table as a frame, as Markdown, LaTeX and on the terminal."""
