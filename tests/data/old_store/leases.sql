PRAGMA application_id = 1212763212;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE claims (
        id INTEGER PRIMARY KEY AUTOINCREMENT, within INTEGER, boards TEXT NOT NULL,
        holder TEXT NOT NULL, purpose TEXT NOT NULL, by_person INTEGER NOT NULL, place TEXT NOT NULL,
        pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, ttl_s REAL NOT NULL, renewed_s REAL NOT NULL,
        renewals INTEGER NOT NULL DEFAULT 0, asked_utc TEXT NOT NULL, taken_utc TEXT, renewed_utc TEXT NOT NULL, fence INTEGER NOT NULL DEFAULT 0);
INSERT INTO "claims" VALUES(2,NULL,'["six/a1"]','anna','new fan',1,'{"host": "ctl", "machine": "m1", "boot": "b1", "clock": "time:[4026531834]", "pids": "pid:[4026531836]"}',731,412591,7200.0,4126.278160657,1,'2026-11-30T02:11:15.429073+00:00','2026-11-30T02:11:15.430747+00:00','2026-11-30T02:11:15.430771+00:00',1796004675389508);
CREATE TABLE held (
        board TEXT, nested INTEGER, claim INTEGER NOT NULL REFERENCES claims ON DELETE CASCADE,
        PRIMARY KEY (board, nested)) WITHOUT ROWID;
INSERT INTO "held" VALUES('six/a1',0,2);
CREATE TABLE history (id INTEGER PRIMARY KEY, lease INTEGER NOT NULL, boards TEXT NOT NULL, holder TEXT NOT NULL, purpose TEXT NOT NULL, place TEXT NOT NULL, taken_utc TEXT NOT NULL, ended_utc TEXT NOT NULL);
INSERT INTO "history" VALUES(1,1,'["six/a2"]','bob','night','{"host": "ctl", "machine": "m1", "boot": "b1", "clock": "time:[4026531834]", "pids": "pid:[4026531836]"}','2026-11-30T02:11:15.398962+00:00','2026-11-30T02:11:15.409+00:00');
CREATE TABLE identity (store TEXT NOT NULL, token INTEGER NOT NULL);
INSERT INTO "identity" VALUES('b5ffee839c4a6838',1796004675389508);
CREATE TABLE marks (board TEXT PRIMARY KEY, tags TEXT NOT NULL, note TEXT NOT NULL, out_of_service TEXT NOT NULL, who TEXT NOT NULL, at_utc TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "marks" VALUES('six/a3','[]','loud fan','','anna','2026-11-30 02:11:15.458023+00:00');
CREATE TABLE sightings (
        claim INTEGER REFERENCES claims ON DELETE CASCADE, clock TEXT, renewals INTEGER NOT NULL,
        at_s REAL NOT NULL, PRIMARY KEY (claim, clock)) WITHOUT ROWID;
CREATE TRIGGER ended AFTER DELETE ON claims WHEN OLD.taken_utc IS NOT NULL BEGIN
        INSERT INTO history (lease, boards, holder, purpose, place, taken_utc, ended_utc)
        VALUES (OLD.id, OLD.boards, OLD.holder, OLD.purpose, OLD.place, OLD.taken_utc,
                strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'));
        DELETE FROM history WHERE id <= last_insert_rowid() - 20000;
    END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('claims',2);
COMMIT;
