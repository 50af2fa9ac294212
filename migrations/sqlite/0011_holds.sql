-- Until then nothing new is issued for the instance; NULL or past: it is not held. It ends by comparison with the time.
ALTER TABLE instances ADD COLUMN held_until BIGINT;

-- The newest hold of each instance: who placed it ('' = an operator, else the detector) and why.
-- detected_at: when a detector held it last, which counts for a day, whoever held it since.
CREATE TABLE holds (
    instance_id TEXT NOT NULL PRIMARY KEY,
    class TEXT NOT NULL,
    node_id TEXT NOT NULL,
    held_until BIGINT NOT NULL,
    placed_at BIGINT NOT NULL,
    detector TEXT NOT NULL,
    reason TEXT NOT NULL,
    detected_at BIGINT
);
CREATE INDEX holds_held_until ON holds (held_until);
CREATE INDEX holds_class ON holds (class, held_until);
