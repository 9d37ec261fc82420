"""What is wrong with tests, plan or lab ends a campaign with 2 before anything is written."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from tests.kits.campaign_folder import HEAD, PASSES, PLAN, Campaign

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("tests", "plan", "says"),
    [
        (PASSES.replace("DEM-2", "DEM-9"), PLAN, "*no requirement DEM-9 in *plan.yaml*"),
        (
            PASSES + "@pytest.mark.needs('nothing')\ndef test_b(): pass\n",
            PLAN,
            "*needs step nothing, which no test is*",
        ),
        (
            HEAD + "@pytest.mark.needs('b')\ndef test_a(): pass\ndef test_b(): pass\n",
            PLAN,
            "*needs step b, which does not come before*",
        ),
        (HEAD + "@pytest.mark.retry_bench('often')\ndef test_a(): pass\n", PLAN, "*retry_bench takes a number*"),
        (PASSES, PLAN.replace("method: T", "method: Q", 1), "*plan.yaml:5: requirements.0.method*"),
        (PASSES, "- not\n- a plan\n", "*plan.yaml*"),
    ],
)
def test_a_configuration_error_ends_with_2_before_anything_is_written(
    campaign: Campaign, tests: str, plan: str, says: str
) -> None:
    campaign.write(tests)
    (campaign.folder / "plan.yaml").write_text(plan, "utf-8")
    outcome = campaign.refused()
    assert outcome.ret == 2
    assert fnmatch(outcome.stdout.str() + outcome.stderr.str(), says)
    assert campaign.nothing_was_written()


def test_a_lab_file_that_is_wrong_ends_with_2_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write(PASSES)
    (campaign.pytester.path / "lab.yaml").write_text("schema: 1\nname: virtual\nboards: []\n", "utf-8")
    for lab in ("lab.yaml", "no-such.yaml"):
        assert campaign.refused("--hil-lab", lab).ret == 2
    assert campaign.refused("--hil-lab", "lab.yaml", "--hil-bench", "x").ret == 2
    assert campaign.refused("--hil-run-id", "../x").ret == 2
    assert campaign.nothing_was_written()


def test_a_campaign_about_another_number_of_boards_ends_with_2_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write(PASSES)
    (campaign.folder / "plan.yaml").write_text(PLAN + "boards: 6\n", "utf-8")
    outcome = campaign.refused("--hil-lab", "virtual", "--hil-split", "3+2")
    assert outcome.ret == 2
    assert fnmatch(outcome.stdout.str() + outcome.stderr.str(), "*is about 6 boards, and 5 of lab virtual take part*")
    assert campaign.nothing_was_written()
    assert campaign.run("--hil-lab", "virtual").ret == 0


def test_a_configuration_error_while_running_stops_the_campaign_with_2(campaign: Campaign) -> None:
    campaign.write(HEAD + "def test_a(): raise ConfigurationError('no lab')\ndef test_b(): pass\n")
    assert campaign.run().ret == 2
    assert campaign.verdicts == {"A": "NOT RUN", "B": "NOT RUN"}
    assert (campaign.directory() / "report.html").is_file()


def test_a_test_that_cannot_be_imported_ends_with_2_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write("import does_not_exist\n")
    assert campaign.run().ret == 2
    assert campaign.nothing_was_written()
