"""The chart of phases and the picture of a moment."""

from __future__ import annotations

import pytest

from hil.errors import ConfigurationError
from hil.orbit.picture import constellation_svg, show
from tests.kits.orbits import EPOCH, orbit


def test_the_chart_is_coloured_by_phase() -> None:
    text = show(orbit("brief-gap"), EPOCH, hours=0.25)
    for phase in ("slew", "acquire", "track"):
        assert f'<rect class="p-{phase}"' in text
    assert "sc-a – sc-b acquire: " in text and "acquisition drawn" in text


def test_the_picture_of_a_moment_tells_links_that_are_up_from_pairs_in_sight() -> None:
    ring = orbit("ring-of-ten")
    text = constellation_svg(ring, EPOCH, links_up=[("sc-02", "sc-01"), ("gs-1", "sc-04")])
    assert "1 crosslinks up, 1 up to the ground; 9 more pairs in sight" in text
    assert text.count(", not up</title>") == 9 and text.count(", up</title>") == 2
    assert "10 crosslinks possible" in constellation_svg(ring, EPOCH)
    with pytest.raises(ConfigurationError, match="has no sc-77"):
        constellation_svg(ring, EPOCH, links_up=[("sc-01", "sc-77")])


def test_a_picture_styles_nothing_but_itself() -> None:
    style = constellation_svg(orbit("brief-gap"), EPOCH).split("<style>")[1].split("</style>")[0]
    selectors = [s for rule in style.split("}")[:-1] for s in rule.split("{")[0].split(",")]
    assert selectors and all(s.startswith(".sky") for s in selectors)


def test_guests_stand_in_the_picture_with_who_serves_them() -> None:
    found = orbit("ring-with-guests")
    text = constellation_svg(found, EPOCH.replace(minute=9))
    assert "flight-1 sees sc-01, sc-02" in text and "eo-9 sees sc-03, sc-04" in text
    assert text.count('class="gst-dot') == 4 and text.count('class="gst"') == 5  # on globe and map; one key
    assert 'class="trk gst-trk"' in text
    text = constellation_svg(found, EPOCH.replace(minute=9), links_up=[("sc-01", "flight-1"), ("sc-01", "sc-02")])
    assert "flight-1 is served by sc-01" in text and "1 crosslinks up, 0 up to the ground; 12 more" in text


def test_an_aircraft_stands_in_the_picture_only_while_it_flies() -> None:
    text = constellation_svg(orbit("ring-with-guests"), EPOCH.replace(minute=25))
    assert "flight-1 sees" not in text and "eo-9 sees" in text and text.count('class="gst-dot') == 2
