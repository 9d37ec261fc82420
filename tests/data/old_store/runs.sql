PRAGMA application_id = 0;
PRAGMA user_version = 0;
BEGIN TRANSACTION;
CREATE TABLE indexed (run_id TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO "indexed" VALUES('20260101-demo-aaaa');
INSERT INTO "indexed" VALUES('20260102-demo-aaaa');
CREATE TABLE points (
  series INTEGER NOT NULL,
  run_id TEXT NOT NULL,
  verdict TEXT NOT NULL,        -- PASS, FAIL, INCONCLUSIVE (also: the bench is to blame), NOT RUN
  value REAL,                   -- of a test: how long it took, s
  PRIMARY KEY (series, run_id)
) WITHOUT ROWID;
INSERT INTO "points" VALUES(1,'20260101-demo-aaaa','PASS',2.5);
INSERT INTO "points" VALUES(1,'20260102-demo-aaaa','PASS',2.5);
INSERT INTO "points" VALUES(2,'20260101-demo-aaaa','PASS',2.5);
INSERT INTO "points" VALUES(2,'20260102-demo-aaaa','PASS',3.5);
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY,
  dir TEXT NOT NULL,            -- relative to the file where it lies beneath it
  plan TEXT NOT NULL,
  plan_sha256 TEXT NOT NULL,
  lab TEXT NOT NULL,
  lab_sha256 TEXT NOT NULL,
  started_utc TEXT NOT NULL,
  ended_utc TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL,          -- running | finished | crashed
  verdict TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '',
  commit_id TEXT NOT NULL DEFAULT '',
  fidelity TEXT NOT NULL DEFAULT '',
  engine TEXT NOT NULL DEFAULT '',
  report TEXT NOT NULL DEFAULT '',
  process TEXT NOT NULL DEFAULT '{}',
  counts TEXT NOT NULL DEFAULT '{}',
  summary TEXT NOT NULL DEFAULT '{}'
);
INSERT INTO "runs" VALUES('20260101-demo-aaaa','runs/20260101-demo-aaaa','demo','a','virtual','b','2026-01-01T00:00:00Z','','finished','PASS','','','','','','{}','{"PASS": 1}','{"requirements": {"R1": "PASS"}, "measurements": {"Links deliver: delay of isl-ab": {"name": "delay", "value": 2.5, "unit": "ms", "ok": true, "dimensions": {"link": "isl-ab"}}}, "boards": [], "evidence": {}, "partial": "", "tests_sha256": "", "manifest": ""}');
INSERT INTO "runs" VALUES('20260102-demo-aaaa','runs/20260102-demo-aaaa','demo','a','virtual','b','2026-01-02T00:00:00Z','','finished','PASS','','','','','','{}','{"PASS": 1}','{"requirements": {"R1": "PASS"}, "measurements": {"Links deliver: delay of isl-ab": {"name": "delay", "value": 3.5, "unit": "ms", "ok": true, "dimensions": {"link": "isl-ab"}}}, "boards": [], "evidence": {}, "partial": "", "tests_sha256": "", "manifest": ""}');
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  plan TEXT NOT NULL,
  lab TEXT NOT NULL,
  test TEXT NOT NULL,           -- id of the test
  name TEXT NOT NULL,           -- of the measurement; empty: the test itself
  board TEXT NOT NULL,
  link TEXT NOT NULL,
  direction TEXT NOT NULL,
  slot TEXT NOT NULL,
  title TEXT NOT NULL,          -- of the test, as it was last
  unit TEXT NOT NULL,
  UNIQUE (plan, lab, test, name, board, link, direction, slot)
);
INSERT INTO "series" VALUES(1,'demo','virtual','t::a','','','','','','Links deliver','s');
INSERT INTO "series" VALUES(2,'demo','virtual','t::a','delay','','isl-ab','','','Links deliver','ms');
CREATE INDEX runs_by_plan ON runs (plan, lab, started_utc);
COMMIT;
