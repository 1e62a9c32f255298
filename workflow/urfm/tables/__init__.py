"""One module a table; `render` writes each as CSV, Markdown and LaTeX."""
