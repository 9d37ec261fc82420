"""Figures of runs, series and nights: textfile, pushgateway, and the rules and dashboards that use them."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from hil.cli.app import cli
from hil.core import paths
from hil.errors import ConfigurationError
from hil.monitor import metrics, run_metrics
from hil.monitor.run_metrics import push, text_of, write_textfile
from hil.report.make import make_report
from tests.kits.nights import begin, job, said
from tests.kits.stored_runs import night
from tests.kits.synthetic_run import build

LAB = paths.ROOT / "lab/observability"
DASHBOARDS = sorted((LAB / "dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, a night of a campaign and a series."""
    folder = tmp_path_factory.mktemp("reports")
    make_report(build(folder / "out/runs/a", "pass"))
    make_report(build(folder / "out/runs/b", "fail"))
    said(begin(folder, job("one", "1"), "- {name: faults, lab: virtual, trials: default, count: 1}\n"))
    return folder / "out"


def read(text: str) -> dict[tuple[str, ...], float]:
    """Value by name and label values, in the order of the documentation."""
    order = {row[0]: row[2].split(", ") for row in run_metrics.table()}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(s.name, *(s.labels[name] for name in order[s.name])): s.value for s in samples}


def test_runs_trials_and_nights_are_counted_by_verdict(out: Path) -> None:
    found = read(text_of(out))
    assert found["hil_runs_total", "six-gpu", "virtual", "PASS"] == 1
    assert found["hil_runs_total", "six-gpu", "virtual", "FAIL"] == 1
    last = {v: found["hil_run_last_verdict", "six-gpu", "virtual", v] for v in ("PASS", "FAIL", "INCONCLUSIVE")}
    assert sum(last.values()) == 1
    assert found["hil_run_last_duration_seconds", "six-gpu", "virtual"] == pytest.approx(55.2)
    (series,) = (key for key in found if key[0] == "hil_series_trials_most")
    assert found["hil_series_trials", *series[1:], "PASS"] == 1 and found[series] == 1
    assert found["hil_night_last_verdict", "lab-a", "FAIL"] == 1 and found["hil_night_last_jobs", "lab-a", "PASS"] == 1
    assert found["hil_night_last_start_timestamp_seconds", "lab-a"] > 1.7e9


def test_a_partial_run_does_not_clear_the_alert_of_the_last_whole_one(tmp_path: Path) -> None:
    for number, (verdict, partial) in enumerate((("PASS", ""), ("FAIL", ""), ("PASS", "-k upload"))):
        night(tmp_path, number, [], verdict, partial=partial)
    found = read(text_of(tmp_path))
    last = {v: found["hil_run_last_verdict", "six-gpu", "virtual", v] for v in ("PASS", "FAIL")}
    assert last == {"PASS": 0, "FAIL": 1} and found["hil_runs_total", "six-gpu", "virtual", "PASS"] == 2


def test_a_textfile_is_replaced_whole_and_nothing_else_lies_beside_it(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "hil.prom"
    path.write_text("old")
    done = CliRunner().invoke(cli, ["runs", "metrics", "--out", str(out), "-o", str(path)])
    assert (done.exit_code, done.output) == (0, f"written to {path}\n")
    assert read(path.read_text("utf-8")) == read(text_of(out)) and list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o044, "node_exporter is another user"
    with pytest.raises(ConfigurationError, match=r"end in \.prom"):
        write_textfile(out, tmp_path / "hil.txt")
    with pytest.raises(ConfigurationError, match="No such file"):
        write_textfile(out, tmp_path / "none" / "hil.prom")


def test_a_pushgateway_gets_them_in_place_of_those_before(out: Path) -> None:
    got: list[tuple[str, str, bytes]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.command, self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        Thread(target=server.handle_request, daemon=True).start()
        push(out, f"127.0.0.1:{server.server_port}")
    ((method, path, body),) = got
    assert (method, path) == ("PUT", "/metrics/job/hil") and read(body.decode()) == read(text_of(out))
    for gateway in (f"127.0.0.1:{server.server_port}", "bad host:9091"):
        with pytest.raises(ConfigurationError, match="did not take the figures"):
            push(out, gateway)


def test_a_folder_without_anything_and_a_broken_store_still_give_a_page(tmp_path: Path) -> None:
    names = {family.name for family in text_string_to_metric_families(text_of(tmp_path))}
    assert len(names) == len(run_metrics.RUN_METRICS)
    (tmp_path / "runs.sqlite").write_text("no database" * 100)
    assert "hil_runs_total" in text_of(tmp_path)


def test_names_follow_the_conventions_of_prometheus() -> None:
    for metric in run_metrics.RUN_METRICS:
        assert re.fullmatch(r"hil_(runs|run|series|night)_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter") and metric.help.endswith(".")


def known() -> set[str]:
    recorded = [
        r["record"]
        for g in yaml.safe_load((LAB / "rules.yml").read_text())["groups"]
        for r in g["rules"]
        if "record" in r
    ]
    return {row[0] for row in (*metrics.table(), *run_metrics.table())} | set(recorded)


def used(text: str) -> set[str]:
    return set(re.findall(r"\bhil[_:][a-zA-Z0-9_:]+", text))


def test_rules_use_only_what_is_exported_and_say_whose_fault_it_is() -> None:
    for group in yaml.safe_load((LAB / "rules.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            assert used(rule["expr"]) <= known(), rule
            if "alert" in rule:
                assert rule["labels"]["blame"] in ("bench", "device") and rule["annotations"]["summary"].endswith(
                    (".", "?")
                )


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_what_grafana_loads(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    assert re.fullmatch("[a-z-]{1,40}", document["uid"]) and document["title"] and document["schemaVersion"] >= 36
    names = [variable["name"] for variable in document["templating"]["list"]]
    assert names[0] == "datasource" and len(set(names)) == len(names)
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"] and panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24 and not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        for target in panel["targets"]:
            assert used(target["expr"]) <= known() and used(target["expr"])
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*names, "__rate_interval"}
    for variable in document["templating"]["list"][1:]:
        assert used(variable["query"]["query"]) <= known()
