-- What is published. oneslot owns the tables (so ../quickstart-people.sql has it): it may read rows again, and add tables.
\set ON_ERROR_STOP on
CREATE PUBLICATION oneslot FOR TABLE fabric.user_data;
ALTER PUBLICATION oneslot OWNER TO oneslot;
