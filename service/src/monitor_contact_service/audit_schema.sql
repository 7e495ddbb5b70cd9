-- The audit of monitor-contact in PostgreSQL 14 or later: one table, two roles. Run once in its database, by a role that
-- may create roles and schemas:
--   psql -X -v ON_ERROR_STOP=1 -f audit_schema.sql "postgresql://admin@host/audit"
-- Then give the service a login of its own: CREATE ROLE monitor_contact LOGIN PASSWORD '…' IN ROLE monitor_contact_audit_writer;

BEGIN;

-- Roles belong to all databases of a server: they may be there already.
DO $$
BEGIN
  IF to_regrole('monitor_contact_audit_owner') IS NULL THEN
    CREATE ROLE monitor_contact_audit_owner NOLOGIN;
  END IF;
  IF to_regrole('monitor_contact_audit_writer') IS NULL THEN
    CREATE ROLE monitor_contact_audit_writer NOLOGIN;
  END IF;
  -- To create something for another role, one must be a member of it; superusers are of all.
  IF NOT pg_has_role('monitor_contact_audit_owner', 'MEMBER') THEN
    EXECUTE format('GRANT monitor_contact_audit_owner TO %I', current_user);
  END IF;
END
$$;

CREATE SCHEMA monitor_contact_audit AUTHORIZATION monitor_contact_audit_owner;
SET LOCAL ROLE monitor_contact_audit_owner;

-- One row per record. `line` is what a file of the audit would have, character for character, without the line's end.
CREATE TABLE monitor_contact_audit.record (
  chain text COLLATE "C" NOT NULL,
  seq bigint NOT NULL CHECK (seq > 0),
  line text COLLATE "C" NOT NULL,
  PRIMARY KEY (chain, seq),
  CHECK (line LIKE '{"v":1,"seq":' || seq || ',"prev":"%","chain":"' || chain || '","t":"%' AND line NOT LIKE E'%\n%')
);

-- The intents without an outcome, kept by the trigger below: what a writer left open is found without reading the table.
CREATE TABLE monitor_contact_audit.open_intent (
  chain text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  id text COLLATE "C" NOT NULL,
  PRIMARY KEY (chain, seq)
);

-- The lines are taken apart as text: PostgreSQL's JSON refuses \u0000, which JSON may hold.
CREATE FUNCTION monitor_contact_audit.note_open_intents() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = monitor_contact_audit, pg_temp AS $$
BEGIN
  INSERT INTO open_intent (chain, seq, id)
    SELECT chain, seq, substring(line FROM '"id":"([^"]*)"')
    FROM written WHERE substring(line FROM '"stage":"([a-z]+)"') = 'intent';
  DELETE FROM open_intent USING written
    WHERE substring(line FROM '"stage":"([a-z]+)"') IN ('outcome', 'recovered')
      AND open_intent.chain = coalesce(substring(line FROM '"of_chain":"([^"]*)"'), written.chain)
      AND open_intent.seq = substring(line FROM '"intent_seq":([0-9]+)')::bigint;
  RETURN NULL;
END
$$;

CREATE TRIGGER note_open_intents AFTER INSERT ON monitor_contact_audit.record
  REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION monitor_contact_audit.note_open_intents();

-- A writer's session holds this advisory lock as long as it lives: so others see that it does, and a second session of
-- the same writer begins only once nothing of the first can be committed any more.
CREATE FUNCTION monitor_contact_audit.lock_key(chain text) RETURNS bigint
  LANGUAGE sql IMMUTABLE SET search_path = monitor_contact_audit, pg_temp AS $$
  SELECT hashtextextended(chain, 0)
$$;

CREATE FUNCTION monitor_contact_audit.holder(chain text) RETURNS integer
  LANGUAGE sql STABLE SET search_path = monitor_contact_audit, pg_temp AS $$
  SELECT pid FROM pg_locks
  WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = lock_key(chain)
$$;

-- What the writer may know: how far a chain was written, and the intents of writers that are gone.
CREATE FUNCTION monitor_contact_audit.last_seq(chain text) RETURNS bigint
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = monitor_contact_audit, pg_temp AS $$
  SELECT coalesce(max(seq), 0) FROM record WHERE record.chain = last_seq.chain
$$;

CREATE FUNCTION monitor_contact_audit.orphaned_intents() RETURNS TABLE (chain text, seq bigint, id text)
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = monitor_contact_audit, pg_temp AS $$
  SELECT open_intent.chain, open_intent.seq, open_intent.id FROM open_intent
  WHERE open_intent.chain IN (
    SELECT known.chain FROM (SELECT DISTINCT open_intent.chain FROM open_intent) AS known
    WHERE holder(known.chain) IS NULL
  )
  ORDER BY open_intent.chain, open_intent.seq
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA monitor_contact_audit FROM PUBLIC;
GRANT USAGE ON SCHEMA monitor_contact_audit TO monitor_contact_audit_writer;
GRANT INSERT ON monitor_contact_audit.record TO monitor_contact_audit_writer;
GRANT EXECUTE ON FUNCTION monitor_contact_audit.lock_key(text), monitor_contact_audit.holder(text),
  monitor_contact_audit.last_seq(text), monitor_contact_audit.orphaned_intents() TO monitor_contact_audit_writer;

COMMIT;
