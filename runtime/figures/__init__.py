"""How explanations are drawn: maps over pictures, figures with titles and colour bars, sheets, and file formats."""
