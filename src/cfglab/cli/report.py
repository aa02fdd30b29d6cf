"""cfglab report."""

from cfglab.cli.options import RunFolder


def report(folder: RunFolder) -> None:
    """Write the report of a run again.

    The report is made from the stored results, without a model. The numbers are also in report.csv and report.json
    next to report.html. With more than 5,000 images, the page loads those that are shown from the folder report/.
    """
    from cfglab.progress import working
    from cfglab.report import report as write

    with working("writing the report"):
        page = write(folder)
    print(f"report: {page}")
