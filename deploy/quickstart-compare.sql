-- Standard input: the lines of the file sink. Folds them and compares the result with fabric.user_data, every column
-- of every row, both ways. Prints "NAME VALUE" lines; `different 0` and `twice 0` is the good end.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SET TimeZone = 'UTC';

-- A line of JSON holds no control character, so these two never occur and a line stays one value as it is.
CREATE TEMP TABLE line (doc jsonb NOT NULL);
\copy line FROM pstdin WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')

CREATE TEMP VIEW change AS
SELECT (doc->>'offset')::bigint AS place, doc->>'epoch' AS epoch, doc->>'lsn' AS lsn, doc->>'xid' AS xid, doc->>'seq' AS seq,
    doc->>'op' AS op, doc->'key'->>'id' AS id, doc->'new' AS row, doc->'old'->>'id' AS former_id
FROM line WHERE doc->>'schema' = 'fabric' AND doc->>'table' = 'user_data';

CREATE TEMP VIEW event AS
WITH since AS (SELECT coalesce(max(place), 0) AS place FROM change WHERE op = 'truncate')
SELECT c.place, id, row FROM change c, since WHERE c.place > since.place AND id IS NOT NULL
UNION ALL -- a key that changed: the former one is gone
SELECT c.place, former_id, NULL FROM change c, since WHERE c.place > since.place AND former_id <> id;

-- A later row takes what it does not hold (a TOASTed value that did not change) from the ones before; an insert
-- holds every column.
CREATE AGGREGATE pg_temp.merge(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}');

CREATE TEMP TABLE fold AS
SELECT (jsonb_populate_record(NULL::fabric.user_data, merged)).*
FROM (
    SELECT pg_temp.merge(row ORDER BY place) FILTER (WHERE row IS NOT NULL) AS merged,
        (array_agg(row IS NULL ORDER BY place DESC))[1] AS is_gone
    FROM event GROUP BY id
) AS per_key
WHERE NOT is_gone;

CREATE TEMP VIEW difference AS
(SELECT 'only in the sink' AS place, * FROM (SELECT * FROM fold EXCEPT ALL SELECT * FROM fabric.user_data) a)
UNION ALL
(SELECT 'only in the table', * FROM (SELECT * FROM fabric.user_data EXCEPT ALL SELECT * FROM fold) b);

SELECT 'changes', count(*) FROM change;
SELECT op || 's', count(*) FROM change GROUP BY op ORDER BY op;
SELECT 'rows', count(*) FROM fabric.user_data;
SELECT 'twice', count(*) FROM (
    SELECT FROM change GROUP BY epoch, lsn, xid, seq HAVING count(*) > 1
    UNION ALL SELECT FROM change GROUP BY place HAVING count(*) > 1) AS again;
SELECT 'different', count(*) FROM difference;
SELECT 'example', place || ': ' || id FROM difference LIMIT 5;
