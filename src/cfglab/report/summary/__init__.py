"""The numbers of a report, testable without a page."""
