"""Plain tests on a bench: no plan, no report; pytest and nothing else."""

from hil import at_most


def test_a_board_has_room_for_our_software(bench, verify):
    with bench.boards["b1"].shell() as shell:
        used = shell.run(["df", "-P", "/data"]).stdout.split()[-2]
    verify("used of /data", float(used.rstrip("%")), "%", limit=at_most(50))
