"""Figures for a paper, as PNG and SVG: each file draws one, from findings; nothing is computed here."""
