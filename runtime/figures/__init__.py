"""How explanations are drawn: maps over images, figures with titles and colour bars, sheets, and file formats."""
