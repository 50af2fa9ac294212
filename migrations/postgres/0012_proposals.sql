-- What detectors proposed: one row for each `hold.proposed`, kept for good. Addresses are not here but with the event, where
-- they can be erased. evidence: canonical JSON. hold: '' = not configured, 'placed', 'capped' (and why in `capped`).
-- began_at: of a reviewed one, when it began. contained_at: when it was first kept from getting anything new, as far as known.
CREATE TABLE proposals (
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    instance_id TEXT NOT NULL,
    class TEXT NOT NULL,
    node_id TEXT NOT NULL,
    detector TEXT NOT NULL,
    evidence TEXT NOT NULL,
    hold TEXT NOT NULL,
    capped TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    reviewed_at BIGINT,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    began_at BIGINT,
    contained_at BIGINT,
    PRIMARY KEY (epoch, number)
);
-- One open one for each instance and detector.
CREATE UNIQUE INDEX proposals_open ON proposals (instance_id, detector) WHERE reviewed_at IS NULL;
CREATE INDEX proposals_open_class ON proposals (class, detector) WHERE reviewed_at IS NULL;
