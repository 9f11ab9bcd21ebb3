"""How anything is shown: the look of figures, HTML pages, tables, the terminal. Knows no model."""
