"""`hil runs export` and `hil runs metrics`: runs in the formats of others."""

from __future__ import annotations

from pathlib import Path

import click

from hil.cli.output import JSON_OPTION, print_result, write_output
from hil.cli.run_argument import RUN_ARGUMENT, directory_of
from hil.core import paths
from hil.core.files import on_this_machine

FORMATS = ("markdown", "pdf", "csv", "vcd", "reqif", "ctrf", "allure", "kcidb", "otlp", "strictdoc", "schema")


@click.command()
@RUN_ARGUMENT
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file; for allure a folder.")
@JSON_OPTION
def export(run_id: str, format_: str, output: Path | None, as_json: bool) -> None:
    """Write a run in another format.

    \b
    markdown  a summary for the page of a CI job
    pdf       the report (needs the extra [pdf])
    csv       every measurement
    vcd       the verification control document, ten columns, as CSV; reqif: the same as ReqIF
    strictdoc JUnit that StrictDoc traces to requirements
    ctrf, allure (a folder), kcidb, otlp (spans of OpenTelemetry)
    schema    the JSON schema of result.json, which is the same for every run
    """
    from hil.evidence.readback import RunRecord
    from hil.report import vcd
    from hil.report.analysis import Analysis
    from hil.report.export import csv_of, ctrf_of, write_allure
    from hil.report.junit import strictdoc_of
    from hil.report.summary import markdown_of
    from hil.report.telemetry import kcidb_of, otlp_of

    makers = {"markdown": markdown_of, "csv": csv_of, "ctrf": ctrf_of, "kcidb": kcidb_of, "otlp": otlp_of}
    makers |= {"vcd": vcd.csv_of, "reqif": vcd.reqif_of, "strictdoc": strictdoc_of}
    if format_ == "pdf":
        _export_pdf(run_id, output, as_json)
        return
    if format_ == "schema":
        text = (paths.PACKAGE / "report/result.schema.json").read_text("utf-8")
    else:
        analysis = Analysis(RunRecord.load(directory_of(run_id)[0]))
        if format_ == "allure":
            if output is None:
                raise click.UsageError("allure is a folder of files: name it with -o")
            count = write_allure(analysis, output)
            print_result(as_json, {"format": format_, "path": str(output), "tests": count}, str(output))
            return
        text = makers[format_](analysis)
    if output is not None:
        write_output(output, text)
        print_result(as_json, {"format": format_, "path": str(output)}, str(output))
    else:
        print_result(as_json, {"format": format_, "text": text}, text.rstrip("\n"))


def _export_pdf(run_id: str, output: Path | None, as_json: bool) -> None:
    from hil.evidence.manifest import REPORT
    from hil.report.make import make_report
    from hil.report.pdf import pdf_of

    if output is None:
        raise click.UsageError("a PDF is no text: name its file with -o")
    directory = directory_of(run_id)[0]
    page = directory / REPORT
    made = pdf_of(page if page.is_file() else make_report(directory))
    with on_this_machine(output):
        output.write_bytes(made)
    print_result(as_json, {"format": "pdf", "path": str(output)}, str(output))


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Reports folder (default: reports/out).")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Textfile (.prom), replaced whole."
)
@click.option("--push", "gateway", metavar="HOST:PORT", help="Put them at this pushgateway.")
@JSON_OPTION
def metrics(out: Path | None, output: Path | None, gateway: str | None, as_json: bool) -> None:
    """Print the figures of runs, series of trials and nights for Prometheus; write or push them after a short run.

    docs/monitoring.md lists all of them. `hil bench export --runs` serves the same.
    """
    from hil.monitor.run_metrics import push, text_of, write_textfile

    folder = (out or paths.reports_out()).absolute()
    if output is not None:
        write_textfile(folder, output)
    if gateway:
        push(folder, gateway)
    done = [f"written to {output}"] if output else []
    done += [f"pushed to {gateway}"] if gateway else []
    text = "" if done else text_of(folder)
    facts = {"path": output and str(output), "pushed_to": gateway, "text": text}
    print_result(as_json, facts, ", ".join(done) or text.rstrip())
