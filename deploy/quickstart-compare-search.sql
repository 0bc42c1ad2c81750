-- Standard input: every document as {"_id", "_source"}. Compares them with fabric.user_data, every column of every row,
-- both ways. Prints "NAME VALUE" lines; `documents-different 0` is the good end.
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SET TimeZone = 'UTC';

-- A line of JSON holds no control character, so these two never occur and a line stays one value as it is.
CREATE TEMP TABLE line (doc jsonb NOT NULL);
\copy line FROM pstdin WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')

-- The names of a document's fields beside its values: a column that is absent is not one that is null.
CREATE TEMP TABLE document AS
SELECT doc->>'_id' AS _id, (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(doc->'_source') AS k) AS fields,
    (jsonb_populate_record(NULL::fabric.user_data, doc->'_source')).*
FROM line;

CREATE TEMP VIEW expected AS
SELECT id::text AS _id, (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(to_jsonb(t)) AS k) AS fields, t.*
FROM fabric.user_data AS t;

CREATE TEMP VIEW difference AS
(SELECT 'only in Elasticsearch' AS place, * FROM (SELECT * FROM document EXCEPT ALL SELECT * FROM expected) a)
UNION ALL
(SELECT 'only in the table', * FROM (SELECT * FROM expected EXCEPT ALL SELECT * FROM document) b);

SELECT 'documents', count(*) FROM document;
SELECT 'documents-different', count(*) FROM difference;
SELECT 'documents-example', place || ': ' || _id FROM difference LIMIT 5;
