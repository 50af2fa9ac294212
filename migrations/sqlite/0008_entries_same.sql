-- Whether a similar entry exists is asked of each new one: by both columns, however many share one of them.
CREATE INDEX entries_same ON entries (spiffe_id, parent_id);
DROP INDEX entries_spiffe_id;
