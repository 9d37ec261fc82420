"""Hypothesis strategies for link states."""

from hypothesis import strategies as st

from hil.links.state import MAX_DELAY_US, MAX_JITTER_US, MAX_RATE_BPS, PPM, GilbertElliott, LinkState

ppm = st.integers(1, PPM)
gemodels = st.builds(
    GilbertElliott, p_ppm=ppm, r_ppm=ppm, loss_bad_ppm=st.integers(0, PPM), loss_good_ppm=st.integers(0, PPM)
)
rates = st.just(0) | st.integers(8, MAX_RATE_BPS)
states = st.builds(
    LinkState,
    delay_us=st.integers(1, MAX_DELAY_US),
    rate_bps=rates,
    loss_ppm=st.integers(0, PPM - 1),
    mtu=st.integers(576, 9216),
    up=st.booleans(),
    jitter_us=st.integers(0, MAX_JITTER_US),
    corrupt_ppm=st.integers(0, PPM),
    duplicate_ppm=st.integers(0, PPM),
    reorder_ppm=st.integers(0, PPM),
) | st.builds(LinkState, delay_us=st.integers(0, MAX_DELAY_US), rate_bps=rates, gemodel=gemodels, up=st.booleans())
