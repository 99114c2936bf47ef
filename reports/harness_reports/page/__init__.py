"""The pieces of a page and how they become HTML, Markdown and pictures."""
