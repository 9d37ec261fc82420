"""Errors of configuration and bench under plain pytest: a few lines, no source of the harness, their own exit code."""

from __future__ import annotations

import pytest

from tests.kits.campaign_folder import PASSES, Campaign, without_record

pytest_plugins = ["pytester"]

NEEDS_BENCH = "def test_it(bench): pass\ndef test_that(bench): pass\n"
PLAIN_TOO = "import pytest\nfrom hil.errors import *\ndef test_no_bench(): pass\n"


def lines_of(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the fixture `bench` needs a lab\n  remedy: add --hil-lab"),
        (("--hil-lab", "nolab.yaml"), "nolab.yaml: no such file"),
        (("--hil-bench", "nobench"), "no bench nobench is up"),
    ],
)
@pytest.mark.parametrize("text", [NEEDS_BENCH, PLAIN_TOO + NEEDS_BENCH])
def test_a_bench_that_cannot_be_had_is_said_without_source(
    pytester: pytest.Pytester, arguments: tuple[str, ...], said: str, text: str
) -> None:
    pytester.makepyfile(text)
    result = without_record(pytester, *arguments)
    assert result.ret == 2
    assert said in lines_of(result)
    assert "raise " not in lines_of(result) and "hil/campaign" not in lines_of(result)
    assert len(result.outlines) < 30


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("raise BenchError('link box is gone')", 3),
        ("raise ConfigurationError('wrong')", 2),
        ("raise DeviceError('a1 fell over')", 1),
        ("assert False", 1),
    ],
)
def test_a_plain_run_ends_with_the_code_of_its_blame(pytester: pytest.Pytester, body: str, code: int) -> None:
    pytester.makepyfile(PLAIN_TOO + f"def test_it():\n    {body}\n")
    result = without_record(pytester)
    assert result.ret == code
    shortened = "test_it():" not in lines_of(result)
    assert shortened == (code != 1)
    assert not shortened or ".py:5: error (" in lines_of(result)
    assert "test_it():" in lines_of(without_record(pytester, "--tb=long"))


def test_a_failure_of_the_device_beside_one_of_the_bench_is_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLAIN_TOO + "def test_a(): raise BenchError('x')\ndef test_b(): assert False\n")
    assert without_record(pytester).ret == 1


def test_a_campaign_cannot_be_shared_out_where_nothing_could_do_it(campaign: Campaign) -> None:
    campaign.write(PASSES)
    for words in (("-n", "2"), ("-n2",), ("--dist=load",)):
        result = campaign.run_apart(*words)
        assert result.ret == 2
        assert lines_of(result).count("\n") < 5 and "pytest-xdist cannot share it out" in lines_of(result)
    assert campaign.nothing_was_written()


@pytest.mark.parametrize(
    "body",
    [
        "parser.addoption('--lab'); add_options(parser)",
        "add_options(parser); parser.addoption('--lab')",
        "add_options(parser); parser.getgroup('ours').addoption('--lab')",
        "add_options(parser); parser.getgroup('hil').addoption('--lab')",
    ],
)
def test_a_short_option_that_somebody_else_has_is_named(pytester: pytest.Pytester, body: str) -> None:
    pytester.makeconftest(f"from hil.campaign.options import add_options\ndef pytest_addoption(parser):\n    {body}\n")
    result = without_record(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--lab is somebody else's option, too" in lines_of(result) and "Traceback" not in lines_of(result)
