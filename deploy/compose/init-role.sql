-- Run once, by the postgres image, as superuser in database app: the role that oneslot connects as.
\set ON_ERROR_STOP on
\set password `cat /run/secrets/oneslot_password`
CREATE ROLE oneslot LOGIN REPLICATION PASSWORD :'password';
