"""A real browser to look at reports."""

from tests.in_browser import chromium, page

__all__ = ["chromium", "page"]
