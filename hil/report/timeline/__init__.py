"""The part of the report on time: boards, links and faults in lanes."""
